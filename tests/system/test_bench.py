"""scripts/bench reload with a load that is small enough for a test."""
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


def run(*options):
    command = [os.path.join(ROOT, "scripts", "bench"), "reload", "--quick", "--only", "frontd",
               "--build-dir", harness.BUILD, *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout
    return done.stdout


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
