"""A worker with proto/node while the front reloads: its calls are answered, what it pushes arrives once and in order."""

import os
import shutil
import threading

import pytest

from harness import rpc_route, wait_for, ws_route
from nodejs import SCRIPTS
from reloads import HUP, USR2
from workerproc import NODE_LIBRARY

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


class Numbers(threading.Thread):
    """What a client gets, by kind, up to the 0 that is the last of each."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.got = client, {"published": [], "pushed": []}
        assert client.call("follow") is True
        self.start()

    def run(self):
        while any(numbers[-1:] != [0] for numbers in self.got.values()):
            (kind, number), = self.client.read_json().items()
            self.got[kind].append(number)


def test_pushes_and_calls_over_reloads(front):
    web = front(shards=2, routes=[rpc_route(), ws_route()], drain="20s")
    entry, = web.config["pools"]
    del entry["workers"]
    entry.update(command=["/usr/bin/env", "node", os.path.join(SCRIPTS, "reload_worker.mjs"), NODE_LIBRARY], instances=1)
    web.start()
    wait_for(lambda: "result" in web.rpc("echo", [1]).json(), "the worker")
    with web.ws() as one, web.ws() as other, web.ws() as third:
        readers = [Numbers(client) for client in (one, other, third)]
        assert web.rpc("begin").json()["result"] is True
        for number in (HUP, USR2, HUP):
            calls = []
            reloading = threading.Thread(target=web.reload, args=(number,), kwargs={"timeout": 30})
            reloading.start()
            while reloading.is_alive() or not calls:
                calls.append(web.rpc("echo", [len(calls)]).json()["result"])
            assert calls == [[n] for n in range(len(calls))]
        last = web.rpc("end").json()["result"]
        for reader in readers:
            reader.join(20)
            assert not reader.is_alive()
            for numbers in reader.got.values():
                assert numbers == [*range(numbers[0], last + 1), 0]
            assert reader.got["pushed"][0] == 1
