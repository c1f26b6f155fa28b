"""workerd/: what it adds to what any worker does (test_worker_protocol.py, test_worker_sockets.py)."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from fakefront import (BINARY, CANCEL, DATA, HELLO, NOTIFY, PING, PONG, REQUEST, RESPONSE, RETRY,
                       WAIT, WINDOW, encode, until)
from workerproc import BUILD, PYTHON, Starter

WORKERD = os.path.join(BUILD, "workerd", "workerd")
DEMO = os.path.join(BUILD, "workerd", "modules", "demo.so")
MODULES = os.path.join(BUILD, "tests", "modules")
PROBE = os.path.join(MODULES, "probe.so")
FOREVER = {"ms": 3_600_000}


def sanitized():
    """Whether the build under test has ASan."""
    with open(WORKERD, "rb") as file:
        return b"__asan_init" in file.read()


@pytest.fixture
def start(tmp_path):
    """start(option, …): workerd with the demo and the probe module, on a socket of its own."""
    starter = Starter(tmp_path, "workerd")

    def start(*options, up=True, modules=(DEMO, PROBE), listen=True, **more):
        address = f"unix:{tmp_path}/w{len(starter.started)}.sock"
        argv = [WORKERD, *(["--listen", address] if listen else []), "--concurrency", "0"]
        for module in modules:
            argv += ["--module", module]
        return starter.start([*argv, *options], address, up, **more)

    yield start
    for worker in starter.started:
        worker.kill()
        assert "Sanitizer" not in worker.output() and "check failed" not in worker.output()


@pytest.fixture
def front(start):
    return start().front()


def run(*argv, **more):
    """A run that ends by itself."""
    return subprocess.run([WORKERD, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=WAIT, **more)


def ends(worker, status=0):
    assert worker.wait() == status, worker.output()
    return worker.output()


# Arguments

def test_help_and_version():
    helped = run("--help")
    assert helped.returncode == 0 and not helped.stderr
    for option in ("--listen", "--module", "--concurrency", "--name", "--log-format", "--version"):
        assert option in helped.stdout
    version = run("--version")
    assert version.returncode == 0 and re.fullmatch(r"workerd \d+\.\d+\.\d+\n", version.stdout)


@pytest.mark.parametrize("argv, said", [
    ([], "no --module"),
    (["--module"], "requires an argument"),
    (["--module", DEMO, "--concurrency", "-1"], "--concurrency"),
    (["--module", DEMO, "--concurrency", "4294967296"], "--concurrency"),
    (["--module", DEMO, "--concurrency", "1x"], "--concurrency"),
    (["--module", DEMO, "--concurrency", ""], "--concurrency"),
    (["--module", DEMO, "--log-format", "xml"], "--log-format"),
    (["--module", DEMO, "--nonsense"], "nonsense"),
    (["--module", DEMO, "more"], "more"),
])
def test_arguments_that_are_none(argv, said):
    ended = run(*argv)
    assert ended.returncode == 2
    assert said in ended.stderr and "--help" in ended.stderr
    assert not ended.stdout


def test_without_a_socket_it_does_not_start():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")}
    ended = run("--module", DEMO, env=environment)
    assert ended.returncode == 1
    assert "no --listen" in ended.stderr


def test_json_logs_and_any_name(start):
    name = 'a "b"\n\\'
    worker = start("--log-format", "json", "--name", name)
    front = worker.front()
    assert front.worker["name"] == name
    worker.signal()
    front.goaway()
    front.expect_closed()
    lines = [json.loads(line) for line in ends(worker).splitlines() if line.startswith("{")]
    assert all(line["who"] == name for line in lines)
    assert any("listening on unix:" in line["message"] for line in lines)


def test_announces_its_methods(front):
    assert set(front.worker["methods"]) >= {"demo.echo", "http.request", "a.*", "a.b.*", "a.b.c"}


# Descriptor 3

LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("kind, fds, said", [
    ("listening", "2", "one socket"),
    ("stream", "1", "no listening stream socket"),
    ("datagram", "1", "no listening stream socket"),
])
def test_descriptor_3_must_be_one_listening_socket(tmp_path, kind, fds, said):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram"
                       else socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "s"))
        if kind == "listening":
            sock.listen()
        ended = subprocess.run(
            [PYTHON, "-c", LAUNCHER, str(sock.fileno()), WORKERD, "--module", DEMO],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT,
            env={**os.environ, "LISTEN_FDS": fds}, pass_fds=[sock.fileno()])
        assert ended.returncode == 1 and said in ended.stderr


# Modules

@pytest.mark.parametrize("module, said", [
    (os.path.join(MODULES, "bad_init.so"), "Permission denied"),
    (os.path.join(MODULES, "no_init.so"), "workerd_module_init"),
    ("/nonexistent/module.so", "/nonexistent/module.so"),
    ("nonexistent.so", "nonexistent.so"),
    (__file__, "test_workerd.py"),
    ("", "module"),
])
def test_a_module_that_does_not_load(start, tmp_path, module, said):
    worker = start(up=False, modules=(DEMO, module))
    assert said in ends(worker, 1)
    assert not list(tmp_path.glob("*.sock"))


def test_two_modules_with_the_same_method(start):
    assert "File exists" in ends(start(up=False, modules=(DEMO, DEMO)), 1)


def test_a_module_in_this_folder_needs_no_slash(start):
    here = os.getcwd()
    os.chdir(os.path.dirname(DEMO))
    try:
        worker = start(modules=("demo.so",))
    finally:
        os.chdir(here)
    assert worker.front().call("demo.add", [1, 2])["result"] == 3


def test_hooks_run_backwards_when_it_stops(start):
    worker = start()
    worker.signal()
    output = ends(worker)
    assert -1 < output.index("hook two") < output.index("hook one")


def test_longer_patterns_go_first(start):
    front = start(env={"PROBE_ALL": "1"}).front()
    for method, wanted in [("a.", "a.*"), ("a.x", "a.*"), ("a.b.", "a.b.*"), ("a.b.cc", "a.b.*"),
                           ("a.b.c", "a.b.c"), ("a", "*"), ("", "*"), ("b.a.b.c", "*"),
                           ("demo.add.x", "*")]:
        assert front.call(method)["result"] == wanted


@pytest.mark.parametrize("method", ["", "a", "demo.ech", "demo.echo2", "Demo.echo", "x" * 1000])
def test_methods_that_nobody_has(front, method):
    assert front.call(method)["error"]["code"] == -32601


def test_a_method_with_escapes(front):
    call = front.next_call()
    front.send(REQUEST, call=call,
               body=b'{"jsonrpc":"2.0","id":1,"method":"demo.\\u0065cho","params":[1]}')
    assert json.loads(front.response(call).body)["result"] == [1]


# Context

CONTEXT = {"peer": "192.0.2.7:514", "headers": {"x-a": "b\u00e9\n"}, "deadline_ms": 5000}


@pytest.mark.parametrize("method", ["probe.context", "probe.kept"])
def test_context(front, method):
    start = time.monotonic()
    call = front.request(method, {"a": "\u00e9"}, id="i\"d", conn=7, meta=CONTEXT,
                         blob=b"bl\0b", flags=RETRY | BINARY)
    response = json.loads(front.response(call).body)
    took = (time.monotonic() - start) * 1000
    assert response["id"] == "i\"d"
    result = response["result"]
    assert json.loads(result["params"]) == {"a": "\u00e9"}
    assert json.loads(result["meta"]) == CONTEXT
    assert json.loads(result["id"]) == "i\"d"
    assert 0 <= CONTEXT["deadline_ms"] - result["deadline"] <= took + 1     # its clock counts whole ms
    wanted = {"method": method, "blob": "bl\0b", "peer": "192.0.2.7:514", "header": "b\u00e9\n",
              "number": call, "conn": 7, "retry": 1, "binary": 1, "notification": 0}
    assert {key: result[key] for key in wanted} == wanted


def test_texts_are_gone_when_the_handler_has_returned_but_the_id_is_not(front):
    call = front.request("probe.later", [1], id="x" * 500, meta=CONTEXT)
    response = json.loads(front.response(call).body)
    assert response["id"] == "x" * 500
    assert json.loads(response["result"]["id"]) == "x" * 500
    assert response["result"]["params"] == response["result"]["meta"] == ""
    assert response["result"]["deadline"] == -1


def test_context_that_was_not_asked_for(front):
    result = front.call("probe.context")["result"]
    assert result["peer"] == result["header"] == -2     # ENOENT
    assert result["deadline"] == -1 and result["meta"] == result["params"] == ""


@pytest.mark.parametrize("meta", [b"[]", b"{", b"nonsense", b'{"peer":7,"headers":[],"deadline_ms":"x"}',
                                  b'{"deadline_ms":-5}', b"\xff"])
def test_context_that_makes_no_sense(front, meta):
    result = json.loads(front.response(front.request("probe.context", meta=meta)).body)["result"]
    assert result["peer"] == result["header"] == -2 and result["deadline"] == -1


def test_context_that_does_not_fit(front):
    meta = {"peer": "x" * 16, "headers": {"x-a": "y" * 15}}
    result = json.loads(front.response(front.request("probe.context", meta=meta)).body)["result"]
    assert result["peer"] == -28 and result["header"] == "y" * 15     # ENOSPC


def test_an_error_message_is_quoted(front):
    error = front.call("probe.fail")["error"]
    assert error["code"] == -2**63 and error["data"] == {"k": []}
    assert error["message"] == 'a"\\\n\x01\x7f\u00e9\ufffd\ufffd\ufffd\ufffd end'


# Threads

def test_answers_from_threads(front):
    calls = {}
    for i in range(200):
        calls[front.request("probe.thread", {"n": i, "fill": "x" * (i * 7)}, blob=b"b" * i)] = i
    for call, i in calls.items():
        frame = front.response(call)
        assert json.loads(frame.body) == {"jsonrpc": "2.0", "id": call,
                                          "result": {"n": i, "fill": "x" * (i * 7)}}
        assert frame.blob == b"b" * i


def test_errors_from_threads(front):
    assert front.call("probe.thread", {"fail": True})["error"] == {
        "code": 7, "message": "from a thread", "data": [1]}


def test_a_thread_sees_that_its_call_is_cancelled(front):
    call = front.request("probe.thread", {"until_cancelled": True})
    front.ping()
    front.send(CANCEL, call=call)
    assert json.loads(front.response(call).body)["error"]["code"] == -32800


def test_the_channel_goes_while_threads_work(start):
    worker = start()
    front = worker.front()
    for _ in range(20):
        front.request("probe.thread", {"until_cancelled": True})
    front.ping()
    front.close()
    worker.signal()
    assert "stopped\n" in ends(worker)


# Loaded before libuv: other threads than the first are slow to wake the loop, and the process to end.
SLOW_TO_WAKE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <unistd.h>

int uv_async_send(void *async)
{
    static atomic_uint sent;
    int (*real)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "uv_async_send");
    if (gettid() != getpid())
        usleep(atomic_fetch_add(&sent, 1) % 5 * 5000);
    return real(async);
}

__attribute__((destructor)) static void wait_for_threads(void)
{
    usleep(200000);
}
"""


def test_a_thread_has_done_with_a_call_before_the_worker_goes(start, tmp_path):
    """However long it takes to say that there is an answer: the loop that it wakes is still there."""
    if sanitized():
        pytest.skip("ASan must be the first library that is loaded")
    (tmp_path / "slow.c").write_text(SLOW_TO_WAKE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "slow.so"), str(tmp_path / "slow.c"), "-ldl"],
                   check=True)
    worker = start(env={"LD_PRELOAD": str(tmp_path / "slow.so")})
    front = worker.front()
    for _ in range(20):
        front.request("probe.thread", {"until_cancelled": True})
    front.ping()
    worker.signal()
    front.goaway()
    front.close()
    assert "stopped\n" in ends(worker)


# Calls that outlive what they came on

def test_a_held_call_hears_that_it_is_cancelled_once(front):
    call = front.request("probe.hold")
    front.send(CANCEL, call=call)
    front.send(CANCEL, call=call)
    front.send(CANCEL, call=call + 1000)
    assert front.call("probe.release")["result"] == {"held": 1, "cancelled": 1}
    assert json.loads(front.response(call).body)["error"]["code"] == -32800


def test_held_calls_of_a_channel_that_is_gone(start):
    worker = start()
    front = worker.front()
    for _ in range(10):
        front.request("probe.hold")
    front.ping()
    front.close()
    other = worker.front()
    until(lambda: "10 calls in progress" in worker.output(), "the channel to close")
    kept = other.request("probe.hold")
    assert other.call("probe.release")["result"] == {"held": 11, "cancelled": 10}
    assert json.loads(other.response(kept).body)["result"] == "released"
    worker.signal()
    ends(worker)


def test_a_call_number_in_use_is_a_protocol_error(start):
    worker = start()
    front, other = worker.front(), worker.front()
    front.send(REQUEST, call=5, body={"jsonrpc": "2.0", "id": 1, "method": "probe.hold"})
    front.send(REQUEST, call=5, body={"jsonrpc": "2.0", "id": 1, "method": "probe.hold"})
    assert front.goaway()["reason"] == "call id in use"
    front.expect_closed()
    assert other.call("probe.release")["result"] == {"held": 1, "cancelled": 1}


def test_notifications_need_no_number(front):
    for _ in range(3):
        front.send(REQUEST, NOTIFY, 0, body={"jsonrpc": "2.0", "method": "probe.hold"})
    assert front.call("probe.release")["result"] == {"held": 3, "cancelled": 0}
    front.ping()
    assert not front.kept


# Stopping

def test_a_handler_may_stop_it(start):
    worker = start()
    front = worker.front()
    call = front.request("probe.stop")
    assert json.loads(front.response(call).body)["result"] is None
    assert front.goaway()["reason"] == "shutdown"
    front.expect_closed()
    ends(worker)


def test_sigterm_waits_for_held_calls_and_a_second_one_does_not(start):
    worker = start()
    front = worker.front()
    front.request("probe.hold")
    front.ping()
    worker.signal(signal.SIGTERM)
    front.goaway()
    front.ping()    # alive, and waiting
    worker.signal(signal.SIGTERM)
    assert "1 calls in progress" in ends(worker, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_at_once_cancels_what_can_be(start, number):
    worker = start()
    front = worker.front()
    calls = [front.request("demo.sleep", FOREVER) for _ in range(50)]
    front.ping()
    worker.signal(number)
    if number == signal.SIGTERM:
        front.goaway()
        worker.signal(number)
    front.expect_closed()
    assert calls and ends(worker)


def test_what_comes_after_goaway_is_not_begun(start):
    worker = start()
    front = worker.front()
    slow = front.request("demo.sleep", FOREVER)
    front.ping()
    worker.signal()
    assert front.goaway() == {"reason": "shutdown", "last_call": slow}
    late = front.request("demo.echo", [1])
    front.ping()
    front.send(CANCEL, call=slow)
    frames = front.expect_closed()
    assert [frame.call for frame in frames if frame.type == RESPONSE] == [slow]
    assert late not in [frame.call for frame in frames]
    ends(worker)


def test_stops_although_a_front_does_not_close(start):
    worker = start()
    front = worker.front()
    worker.signal()
    front.goaway()
    ends(worker)    # the front's end is still open


# Frames that break a rule

@pytest.mark.parametrize("data", [
    encode(REQUEST, 0, 1, body=b'{"jsonrpc":"2.0","id":1,"method":"demo.echo"}'),
    b"\xff" * 32,
], ids=["id-in-use", "garbage"])
def test_a_bad_frame_costs_its_channel(start, data):
    worker = start()
    front, other = worker.front(), worker.front()
    front.request("demo.sleep", FOREVER)
    front.send_raw(data)
    assert front.goaway()["reason"]
    assert not front.expect_closed()
    assert other.call("demo.add", [1, 2])["result"] == 3
    worker.signal()
    other.goaway()
    other.close()
    ends(worker)


def test_frames_that_are_wrong_by_themselves_are_dropped(start):
    worker = start()
    front = worker.front()
    front.request("demo.sleep", {"ms": 1})
    for data in (encode(DATA, call=1), encode(HELLO, body=b'{"protocol":[1]}'), encode(RESPONSE, call=1),
                 encode(8, conn=1, blob=b"x"), encode(PING, body=b"x" * 65)):
        front.send_raw(data)
    assert front.expect(RESPONSE).call == 1
    assert front.call("demo.add", [1, 2])["result"] == 3
    assert not [f for f in front.kept if f.type == PONG]
    for said in ("DATA", "HELLO", "RESPONSE", "PUSH", "PING"):
        assert said + " is dropped: " in worker.output()


@pytest.mark.parametrize("type, flags", [(WINDOW, 0), (PONG, 0), (200, 0xff)])
def test_frames_that_mean_nothing_are_skipped(front, type, flags):
    front.send(type, flags, call=9, body=b"nonsense", blob=b"x")
    assert front.call("demo.add", [1, 2])["result"] == 3


@pytest.mark.parametrize("body, code", [
    (b"{", -32700), (b"", -32700), (b"[]", -32600), (b"7", -32600), (b'{"jsonrpc":"2.0"}', -32600),
    (b'[{"jsonrpc":"2.0","id":1,"method":"demo.echo"}]', -32600),
    (b'{"jsonrpc":"1.0","id":1,"method":"demo.echo"}', -32600), (b"[" * 1000, -32700)])
def test_a_request_that_is_none(front, body, code):
    front.send(REQUEST, call=front.next_call(), body=body)
    assert json.loads(front.expect(RESPONSE).body)["error"]["code"] == code
    front.send(REQUEST, NOTIFY, front.next_call(), body=body)
    front.ping()
    assert not front.kept


# Limits

def test_replies_at_the_fronts_max_frame(start):
    limit = 5000
    front = start().front(max_frame=limit)
    around = len(json.dumps({"jsonrpc": "2.0", "id": 1, "result": ""}, separators=(",", ":")))

    def reply(size, blob=0):
        return front.response(front.request("probe.large", [size, blob], id=1))

    assert len(reply(limit - around).body) == limit
    for size, blob in [(limit - around + 1, 0), (limit - around, 1), (10, limit), (10**7, 10**7)]:
        frame = reply(size, blob)
        error = json.loads(frame.body)["error"]
        assert error["code"] == -32603 and "max_frame" in error["message"] and not frame.blob
    assert len(reply(10, limit - around - 10).blob) == limit - around - 10


def test_a_front_that_does_not_read_is_not_read_either(start):
    worker = start()
    front = worker.front()
    front.socket.settimeout(1)
    sent, size = 0, 100_000
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "probe.large", "params": [size]}).encode()
    with pytest.raises(TimeoutError):
        while sent < 100_000:
            front.socket.sendall(encode(REQUEST, call=sent + 1, body=body))
            sent += 1
    with open(f"/proc/{worker.process.pid}/status", encoding="ascii") as file:
        used = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
    assert used < (400_000 if sanitized() else 60_000)   # KiB
    other = worker.front()
    assert other.call("demo.add", [1, 2])["result"] == 3
    # What was taken comes when it reads again; the last frame was perhaps cut by the timeout.
    for call in range(1, sent + 1):
        frame = front.recv()
        assert frame.call == call and len(frame.body) > size
    worker.signal(signal.SIGINT)
    ends(worker)


def test_many_frames_in_one_write_are_answered_in_few(start):
    front = start().front()
    body = b'{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":[1]}'
    count = 5000
    front.send_raw(b"".join(encode(REQUEST, call=i + 1, body=body) for i in range(count)))
    assert [front.recv().call for _ in range(count)] == list(range(1, count + 1))


@pytest.mark.parametrize("size", [1, 31, 33, 4096])
def test_frames_in_pieces(front, size):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "demo.echo", "params": ["x" * 9000]})
    data = b"".join(encode(REQUEST, call=i, body=body.encode()) for i in (1, 2, 3))
    if size == 1:
        data = data[:9500]
    for i in range(0, len(data), size):
        front.send_raw(data[i:i + size])
        if size == 1 and i % 1000 == 0:
            time.sleep(0.001)   # so that some arrive alone
    assert front.recv().call == 1


def test_a_frame_larger_than_any_buffer(front):
    text = "x" * 10_000_000
    assert front.call("demo.echo", [text])["result"] == [text]
    assert front.http("PUT", "/echo", b"b" * 10_000_000)[2] == b"b" * 10_000_000


# Silence (section 10), at a fraction of the times

def test_no_hello_in_time(start):
    worker = start(env={"WORKERD_TIMES": "100,15000,45000,1000"})
    front = worker.dial()
    assert front.goaway()["reason"] == "no HELLO in time"
    front.expect_closed()


def test_ping_after_silence_and_again(start):
    front = start(env={"WORKERD_TIMES": "5000,100,60000,1000"}).front()
    for _ in range(3):
        ping = front.expect(PING)   # long before what would end the channel
        front.send(PONG, body=ping.body)
    assert front.call("demo.add", [1, 2])["result"] == 3


def test_a_silent_front_is_given_up(start):
    worker = start(env={"WORKERD_TIMES": "5000,100,200,1000"})
    front = worker.front()
    front.expect(PING)
    assert all(frame.type == PING for frame in front.expect_closed())
    assert "silent" in worker.output()


def test_a_silent_front_is_not_given_up_while_its_calls_are_in_progress(start):
    worker = start(env={"WORKERD_TIMES": "5000,300,300,1000"})
    front = worker.dial()
    front.hello(encode(REQUEST, call=1, body=b'{"jsonrpc":"2.0","id":1,"method":"demo.sleep","params":[1400]}'))
    assert front.response(1)
    front.expect_closed()   # but then


# Failing allocations

def test_each_allocation_fails(start):
    """The n-th allocation fails, for each n up to where a few calls need no more of them."""
    def calls(worker):
        front = worker.front()
        front.call("probe.kept", ["x" * 300], id="i" * 100)
        front.call("demo.error", {"code": 1, "message": "m", "data": "x" * 300})
        front.call("probe.later", id="i" * 100)
        front.http("PUT", '/echo/"', b"b" * 1000, [("content-type", "t")])
        front.request("probe.hold")
        front.call("demo.echo", ["x" * 600_000])
        front.call("probe.release")

    survived = 0
    for n in range(200):
        worker = start(up=False, env={"FRONTD_FAIL_ALLOC": str(n),
                                       "WORKERD_TIMES": "5000,15000,45000,10"})
        until(lambda: worker.process.poll() is not None or "listening" in worker.output(), "a start")
        if worker.process.poll() is not None:
            assert ends(worker, 1)
            continue
        try:
            calls(worker)
            survived += 1
        except (AssertionError, OSError, KeyError):
            # What was hit closed its channel or failed its call; all others go on.
            calls(worker)
        worker.signal()
        assert "stopped\n" in ends(worker)
        if survived == 5:
            return
    raise AssertionError("there is always one more allocation")
