"""The C in docs/workerd.md, taken from the page, compiled and run, so that it cannot rot."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from fakefront import DATA, MORE, NOTIFY, PUBLISH, PUSH, SUBSCRIBE, WINDOW, FakeFront, answers, until
from test_workerd import ends, sanitized, start  # noqa: F401
from workerproc import BUILD, ROOT, Starter

# What the second example leaves out.
NEWS = """
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <workerd/workerd.h>
%s
static void now(struct workerd_call *call, void *data)
{
    int r = news_came(data, "\\"now\\"");
    if (r < 0)
        workerd_fail(call, r, strerror(-r), NULL, 0);
    else
        workerd_reply(call, "true", 4);
}

int workerd_module_init(struct workerd *worker)
{
    int r = workerd_method(worker, "news.follow", follow, NULL);
    return r == 0 ? workerd_method(worker, "news.now", now, worker) : r;
}
"""

ASKS = """
#include <workerd/workerd.h>

%s
int workerd_module_init(struct workerd *worker)
{
    return workerd_method(worker, "orders.remove", remove_order, NULL);
}
"""

REPORT = """
#include <errno.h>
#include <workerd/workerd.h>
%s
int workerd_module_init(struct workerd *worker)
{
    for (size_t i = 0; i < sizeof(report); i++)
        report[i] = (char)(i %% 251);
    return workerd_method(worker, "http.request", answer_report, NULL);
}
"""

COUNTS = """
#include <stdio.h>
#include <workerd/workerd.h>
static void on_gone(void *call)
{
    workerd_fail(call, WORKERD_CANCELLED, "the client has gone", NULL, 0);
}
"""

EXAMPLE = re.compile(r"^```c\n(.*?)^```$", re.S | re.M)
COMMANDS = re.compile(r"^\n((?:    .*\n)+)$", re.M)


def parts_come_and_go(start, folder):
    """The examples of bodies in parts."""
    params = {"method": "GET", "path": "/", "headers": []}
    front = start(modules=(str(folder / "report.so"),)).front()
    call, got, more = front.request("http.request", params), b"", True
    assert json.loads(front.response(call).body)["result"]["status"] == 200
    while more:
        frame = front.expect(DATA)
        got, more = got + frame.blob, frame.flags & MORE
        front.send(WINDOW, call=call, body={"bytes": len(frame.blob)})
    assert got == bytes(i % 251 for i in range(1 << 20))
    front = start(modules=(str(folder / "counts.so"),)).front()
    call = front.request("http.request", params, flags=MORE, blob=b"12345")
    for flags in (MORE, MORE, 0):
        front.send(DATA, flags, call, blob=b"x" * 50000)
    assert front.response(call).blob == b"150005 bytes\n"


@pytest.mark.skipif(sanitized(), reason="a program without the sanitizers' libraries cannot have ours")
@pytest.mark.parametrize("name,method,params", [("greet", "greet.hello", {"name": "Ada"}), ("clock", "time.now", None)])
def test_the_commands_after_quickstart_work(tmp_path, name, method, params):
    """As they stand on the page, in a folder whose build/release is the build under test."""
    with open(os.path.join(ROOT, "docs", "workerd.md"), encoding="utf-8") as file:
        page = file.read()
    text, = [text for text in EXAMPLE.findall(page) if method in text]
    commands, = [block for block in COMMANDS.findall(page) if "-uninstalled" in block and name + ".c" in block]
    (tmp_path / f"{name}.c").write_text(text)
    (tmp_path / "build").mkdir()
    os.symlink(BUILD, tmp_path / "build" / "release")
    sock = f"{tmp_path}/{name}.sock"
    assert f"/tmp/{name}.sock" in commands
    commands = commands.replace(f"/tmp/{name}.sock", sock)
    env = {key: value for key, value in os.environ.items() if key not in ("PKG_CONFIG_PATH", "LD_LIBRARY_PATH")}
    process = subprocess.Popen(["sh", "-e", "-c", commands], cwd=tmp_path, env=env, start_new_session=True,
                               stdin=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or answers(f"unix:{sock}"), "the worker")
        with FakeFront(f"unix:{sock}") as front:
            front.hello()
            assert front.call(method, params)["result"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_documented_modules_and_program_work(start, tmp_path):  # noqa: F811
    """Compiles what docs/workerd.md shows, with the flags of the pkg-config file."""
    with open(os.path.join(ROOT, "docs", "workerd.md"), encoding="utf-8") as file:
        module, report, counts, news, asks, program = EXAMPLE.findall(file.read())
    env = {**os.environ, "PKG_CONFIG_PATH": os.path.join(BUILD, "meson-uninstalled")}
    flags, libraries = (subprocess.run(["pkg-config", what, "workerd-uninstalled"], env=env, check=True,
                                       capture_output=True, text=True).stdout.split()
                        for what in ("--cflags", "--libs"))
    if sanitized():
        flags.append("-fsanitize=address,undefined")
    for name, text, more in [("greet.so", module, ["-shared", "-fPIC"]),
                             ("news.so", NEWS % news, ["-shared", "-fPIC"]),
                             ("asks.so", ASKS % asks, ["-shared", "-fPIC"]),
                             ("report.so", REPORT % report, ["-shared", "-fPIC"]),
                             ("counts.so", COUNTS + counts, ["-shared", "-fPIC"]), ("own", program, [])]:
        (tmp_path / f"{name}.c").write_text(text)
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", *flags, *more, "-o", str(tmp_path / name),
                        str(tmp_path / f"{name}.c"), *(libraries if name == "own" else [])], check=True)
    front = start(modules=(str(tmp_path / "greet.so"),)).front()
    assert front.call("greet.hello", {"name": "Ada"})["result"] == "Hello, Ada!"
    assert front.call("greet.hello", {})["error"]["code"] == -32602
    front = start(modules=(str(tmp_path / "news.so"),)).front()
    assert front.call("news.follow")["error"]["code"] == -32602
    assert front.call("news.follow", conn=7)["result"] is True
    assert front.call("news.now")["result"] is True
    assert [frame.type for frame in front.kept] == [SUBSCRIBE, PUBLISH]
    front = start(modules=(str(tmp_path / "asks.so"),)).front()
    call = front.request("orders.remove", conn=7)
    request = json.loads(front.expect(PUSH).body)
    assert request["params"] == ["Delete it?"]
    front.request("frontd.response", {"conn": "7", "response": {"jsonrpc": "2.0", "id": request["id"], "result": True}},
                  flags=NOTIFY, conn=7)
    assert json.loads(front.response(call).body)["result"] is True
    parts_come_and_go(start, tmp_path)
    address = f"unix:{tmp_path}/own.sock"
    starter = Starter(tmp_path, "workerd")
    own = starter.start([str(tmp_path / "own"), address], address, env={
        "LD_LIBRARY_PATH": os.path.join(BUILD, "workerd")})
    try:
        assert own.front().call("time.now")["result"] > 1_600_000_000
        os.replace(shutil.copy(tmp_path / "own", tmp_path / "new"), tmp_path / "own")
        own.signal(signal.SIGUSR2)
        assert own.fronts[0].goaway()["reason"] == "replaced"
        own.fronts[0].expect_closed()
        ends(own)
        successor = own.front()
        assert successor.call("time.now")["result"] > 1_600_000_000
        os.kill(successor.worker["pid"], signal.SIGTERM)
        successor.goaway()
        successor.expect_closed()
        until(lambda: not os.path.exists(address[5:]), "the end of the successor")
    finally:
        starter.close()
