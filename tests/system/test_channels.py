"""What goes wrong on one channel costs no call that need not be lost, and no memory to speak of."""
import os
import re
import signal
import socket
import time
from datetime import datetime

from fakeworker import PING, frame, hold
from harness import memory, sanitized, stat, wait_for
from httpclient import rpc_request


def stopped(pid):
    """Stops a process, and returns when it stands still."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: stat(pid)[0] == "T", "the stop of %d" % pid)


def unread(sock):
    """Whether bytes wait in a socket that nobody reads now."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def test_an_answer_before_the_end_is_not_lost(site):
    """A worker answers one call and ends with another one unread: an error for the kernel, but the
    answer is there."""
    web = site()
    worker = web.fake(handler=hold)
    web.start()
    shard = web.shard
    channel = worker.channels[0]
    with web.client() as one, web.client() as two:
        worker.handler = lambda call: channel.paused.set()
        one.send(rpc_request("demo.echo", [1], id=1))
        call = worker.wait_calls(1)
        wait_for(channel.paused.is_set, "the end of reading")
        two.send(rpc_request("demo.echo", [2], id=2))
        wait_for(lambda: unread(channel.sock), "the second call")
        stopped(shard)
        call.reply("r")
        channel.sock.close()
        os.kill(shard, signal.SIGCONT)
        answer = one.read_response()
        assert answer.status == 200 and answer.json()["result"] == "r"
        answer = two.read_response()
        assert answer.status == 502 and answer.json()["error"]["code"] == -32002


def test_pings_of_a_worker_that_does_not_read(site):
    """It is owed a PONG for each of them, but they are not kept for ever."""
    web = site()
    worker = web.fake()
    web.start()
    shard = web.shard
    before = memory(shard)
    worker.channels[0].paused.set()
    for _ in range(200):
        worker.channels[0].send(frame(PING, body=b"p" * 64) * 10000)    # 183 MiB in all
    if not sanitized():         # whose quarantine keeps what has been freed
        assert memory(shard) - before < 100 << 20
    worker.channels[0].paused.clear()
    assert web.rpc("demo.echo", [1]).status == 200


def test_goaway_again_and_again(site):
    """A worker that leaves whenever it is dialled, and closes nothing: it has few channels, and is
    dialled less and less often."""
    web = site()
    worker = web.fake(on_hello=lambda channel: (channel.hello(), channel.goaway_now(0)))
    web.start()
    worker.wait(lambda: len(worker.channels) >= 9, "all channels")
    times = [datetime.fromisoformat(when)
             for when in re.findall(r"^(\S+)Z .* goes away: ", web.front.text(), re.MULTILINE)]
    assert (times[6] - times[0]).total_seconds() > 0.5
    time.sleep(2.5)
    assert len(worker.channels) == 9
    worker.on_hello = lambda channel: channel.hello()
    worker.channels[0].close()      # the one that waits for its end gives no room to another
    worker.channels[8].close()
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "a channel that stays")


def test_an_end_after_hello_again_and_again(site):
    web = site()
    worker = web.fake(on_hello=lambda channel: (channel.hello(), channel.close()))
    web.start()
    worker.wait(lambda: len(worker.channels) >= 3, "a channel")
    time.sleep(2)
    assert len(worker.channels) < 12
    worker.on_hello = lambda channel: channel.hello()
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "a channel that stays")


def test_a_folder_that_is_swapped_for_another(site):
    """The old one's watch is removed, which must not be taken for the end of the new one."""
    web = site()
    folder = web.path("workers")
    os.mkdir(folder)
    web.config["pools"][0]["workers"] = ["unix:" + folder + "/app-*.sock"]
    web.start()
    shard = web.shard
    stopped(shard)
    os.rename(folder, folder + ".old")
    os.mkdir(folder)
    os.kill(shard, signal.SIGCONT)
    web.fake("workers/app-1")
    wait_for(lambda: web.rpc("demo.echo", [1]).status == 200, "a worker in the new folder")
    before = stat(shard)[3]
    time.sleep(1)
    assert stat(shard)[3] - before < 0.3, "the shard spins"
