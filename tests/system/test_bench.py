"""scripts/bench reload and fairness with loads that are small enough for a test."""
import os
import re
import subprocess

import harness
from harness import ROOT

LIMIT = 120.0


def row(text, server):
    """The columns of the first table for one kind of connection."""
    line = next(line for line in text.splitlines() if line.startswith(server + " "))
    return [int(c.replace(",", "")) if c != "-" else None for c in line[len(server):].split()]


def bench(name, *options):
    command = [os.path.join(ROOT, "scripts", "bench"), name, "--build-dir", harness.BUILD, *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def run(*options):
    return bench("reload", "--quick", "--only", "frontd", *options)


def check_counts(text):
    for kind in ("HTTP keep-alive", "WebSocket", "framed TCP"):
        connections, closed, refused, calls, failed, pushes, lost, doubled, _ = row(text, "frontd, " + kind)
        assert (connections, closed, refused, failed) == (100, 0, 0, 0), text
        assert calls > 0, text
        if kind == "WebSocket":
            assert (lost, doubled) == (0, 0) and pushes > 0, text


def test_a_small_load_of_every_kind_is_counted_in_full():
    text = run("--reloads", "0")
    check_counts(text)
    assert len(re.findall("not measured", text)) == 7, text


def test_reloads_under_load_close_nothing_and_lose_nothing():
    text = run()
    assert "\n2 reloads" in text, text
    check_counts(text)
    assert "not measured" not in text, text


def test_fairness_tells_normal_clients_from_greedy_ones():
    """What the figures are is not for a test: that there are any, of all sides, and no call is lost."""
    text = bench("fairness", "--rounds", "1", "--seconds", "0.3", "--clients", "10", "--pause", "5",
                 "--subscribers", "10", "--budget", "16", "--holders", "websocket-answers,queued-calls")
    for case in ("pipelined", "batches", "websocket", "published", "unheard", "stopped", "many"):
        line = next(line for line in text.splitlines() if line.startswith(case + " "))
        calls, _, failed, answers = [int(c.replace(",", "")) for c in line.split()[8:12]]
        assert calls > 0 and failed == 0, text
        assert answers > 0 or case == "stopped", text
    for kind in ("websocket-answers", "queued-calls"):
        line = next(line for line in text.splitlines() if line.startswith(kind + " "))
        assert line.split()[1] == "64.0" and float(line.split()[2]) > 1, text
    assert len(re.findall(" p99 beside .*: [0-9.,]+\n", text)) == 7, text
    assert len(re.findall(" held for ", text)) == 2, text


def test_streams_come_whole():
    """Bodies in both directions and events, of which none is missing; how fast is not for a test."""
    text = bench("stream", "--only", "frontd", "--rounds", "1", "--bytes", "50000000", "--clients", "20", "--seconds", "1")
    for kind in ("down", "up", "events"):
        line = next(line for line in text.splitlines() if line.startswith("frontd, %s " % kind))
        assert float(line.split()[2].replace(",", "")) > 0, text


def test_a_queue_is_compared_with_theory():
    text = bench("queue", "--rounds", "1", "--seconds", "2", "--shards", "2", "--workers", "4", "--service-us", "10000",
                 "--load", "60", "--connections", "200")
    line = next(line for line in text.splitlines() if line.startswith("round 1 "))
    calls, refused, wrong, load = [float(c.replace(",", "")) for c in line.split()[2:6]]
    assert calls > 300 and (refused, wrong) == (0, 0) and 40 < load < 90, text
    assert len(re.findall(" of the wait, to that of M/M/n, at most 1.25: [0-9.,]+\n", text)) == 2, text


def test_overload_tells_every_end_of_calls():
    """Four times what the workers can answer is not answered; nothing else than that has gone wrong, nor in any other run."""
    text = bench("overload", "--rounds", "1", "--seconds", "0.3", "--shards", "2", "--workers", "4", "--service-us", "10000",
                 "--timeout", "200", "--connections", "300")
    runs = {}
    for name in ("capacity", "0.5 x", "1 x", "2 x", "4 x", "without flood", "flood", "without stopped", "stopped"):
        line = next(line for line in text.splitlines() if line.startswith(name + "  "))
        runs[name] = [int(c.replace(",", "")) for c in line[len(name):].split()[1:5]]
    assert all(run[0] > 0 and run[3] == 0 for run in runs.values()), text
    assert runs["4 x"][1] + runs["4 x"][2] > 0, text
    assert len(re.findall("\n  (?:met|missed) ", text)) >= 5, text
