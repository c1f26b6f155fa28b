"""The servers of scripts/bench reload: each on two CPUs, and reloaded by its own means."""

import http.client
import json
import os
import signal

import common
import servers
from common import BenchError

KINDS = {"http": "HTTP keep-alive", "websocket": "WebSocket", "frame": "framed TCP", "http2": "HTTP/2"}
BACKEND = "tests/bench/bench_reload_backend"
# That an old generation of the others is given for what does not end by itself: WebSockets.
SHUTDOWN_SECONDS = 5


class Reloadable:
    """What they have in common; the rest comes from one of servers.py."""

    speaks = ["http", "websocket", "http2"]  # kinds of connections that it takes
    signal = None
    keeps = False  # whether its connections are to survive

    @property
    def kinds(self):
        return [kind for kind in self.speaks if kind != "http2" or self.certificate]

    def port_of(self, kind):
        return self.port

    def reload(self):
        os.kill(self.front.pid, self.signal)

    def generation(self):
        """The processes that a reload replaces, as {pid: when it was started}."""
        found = {pid: started(pid) for pid in common.process_tree(self.front.pid)[1:]}
        return {pid: start for pid, start in found.items() if start is not None}

    def check_reloaded(self):
        """Overridden where it can be told; called once the old generation is gone."""

    def publish(self, rate, topics):
        """Has messages published at that rate from now on; returns how many were so far."""
        params = {"rate": rate, "topics": topics}
        call = {"jsonrpc": "2.0", "id": 1, "method": "reload.publish", "params": params}
        body = json.dumps(call, separators=(",", ":"))
        client = self.http_client()
        try:
            client.request("POST", servers.PATH, body, {"Content-Type": "application/json"})
            return json.loads(client.getresponse().read())["result"]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as e:
            raise BenchError(f"{self.name}: reload.publish: {e!r}{self.logs()}") from e
        finally:
            client.close()


def started(pid):
    """When a process was started, in clock ticks; None when it is gone."""
    fields = common.stat_fields(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def is_there(pid, start):
    """Whether a process that was started then has still not been waited for."""
    return common.stat_fields(pid)[19:20] == [start]


def is_shard(pid):
    """A child of frontd's may also be one that closes something, for a moment."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return b"\0--shard\0" in f.read()
    except OSError:
        return False


class Frontd(Reloadable, servers.Frontd):
    """Every other reload also changes the number of shards, from 2 to 3 or back."""

    speaks = list(KINDS)
    signal = signal.SIGUSR2
    keeps = True
    shards = 2
    reloads = 0
    modules = ["workerd/modules/demo.so", "tests/bench/bench_reload_topics.so"]
    targets = servers.Frontd.programs + modules

    def port_of(self, kind):
        return self.frame_port if kind == "frame" else self.port

    def reload(self):
        if self.reloads % 2 == 0:
            self.shards = 5 - self.shards
            self.write_config()
        self.reloads += 1
        super().reload()

    def check_reloaded(self):
        there = sum(is_shard(pid) for pid in self.generation())
        if there != self.shards:
            raise BenchError(f"frontd has {there} shards, not {self.shards}{self.logs()}")


class Proxy(Reloadable):
    """Forwards to a backend that is not reloaded."""

    targets = [BACKEND]

    def start_worker(self):
        command = [self.built(BACKEND), "--listen", self.path("app.sock")]
        self.worker = self.spawn("worker", command)
        self.wait_for_socket(self.path("app.sock"))


NGINX_WEBSOCKETS = f"""
        location {servers.WS_PATH} {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 1h;
        }}"""


class Nginx(Proxy, servers.Nginx):
    signal = signal.SIGHUP  # as nginx -s reload does
    workers = 2
    main = f"worker_shutdown_timeout {SHUTDOWN_SECONDS}s;"
    listen = "reuseport"  # or one of the two would have most of the connections
    locations = NGINX_WEBSOCKETS


class Haproxy(Proxy, servers.Haproxy):
    signal = signal.SIGUSR2  # to its master, which starts itself anew, and workers with -sf
    threads = 2
    options = f"hard-stop-after {SHUTDOWN_SECONDS}s"
    mode = ["-W", "-db"]


ALL = [Frontd, Nginx, Haproxy]
