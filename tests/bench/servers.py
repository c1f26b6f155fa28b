"""The servers that are compared, each started with one single-threaded front and one worker."""

import http.client
import json
import os
import time

import common
from common import BenchError

PATH = "/rpc"
WS_PATH = "/ws"
PARAMS = '{"text":"hello from the other side","n":42}'
REQUEST = '{"jsonrpc":"2.0","id":1,"method":"demo.echo","params":%s}' % PARAMS
ANSWER = '{"jsonrpc":"2.0","id":1,"result":%s}' % PARAMS

READY_SECONDS = 15
# Above all loads here, under the 20,000 descriptors that a process may commonly have.
CONNECTIONS = 18000


class Server:
    """A front, and the worker behind it where there is one."""

    name = ""
    program = None  # what has to be installed for it
    targets = []  # what has to be built for it
    has_tls = True  # it can

    def __init__(self, processes, build_dir, tls=False, h2=False):
        """h2: HTTP/2, over TLS."""
        self.processes = processes
        self.build_dir = build_dir
        self.h2 = h2
        self.certificate = processes.certificate() if tls else None
        self.port = common.free_port()
        self.worker = None
        self.front = None
        self.answer_bytes = None

    def path(self, name):
        return os.path.join(self.processes.dir, f"{self.name}-{name}")

    def config(self, text):
        """Replaces the file as a whole: half of one would be another config."""
        path = self.path("config")
        common.write(path + ".new", text)
        os.rename(path + ".new", path)
        return path

    def built(self, path):
        return os.path.join(self.build_dir, path)

    def spawn(self, role, command):
        return self.processes.start(f"{self.name}-{role}", command)

    def start_limit(self, role, address):
        limit = self.built("tests/bench/bench_limit")
        return self.spawn(role, [limit, "--listen", address, "--body", ANSWER])

    def start_worker(self):
        """Overridden where there is a worker; waits until its socket is there."""

    def start_front(self):
        raise NotImplementedError

    def start(self):
        self.start_worker()
        self.start_front()
        self.wait_ready()
        return self

    def wait_for_socket(self, path):
        deadline = time.monotonic() + READY_SECONDS
        while not os.path.exists(path):
            self.check_running(self.worker)
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: the worker does not listen{self.logs()}")
            time.sleep(0.02)

    def check_running(self, process):
        if process.poll() is not None:
            raise BenchError(f"{self.name} ended with {process.returncode}{self.logs()}")

    def wait_ready(self):
        """A server is ready when a request is answered as it should be."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            self.check_running(self.front)
            wrong = self.try_request()
            if not wrong:
                return
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} does not answer as it should: {wrong}{self.logs()}")
            time.sleep(0.05)

    def url(self, path):
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}{path}"

    def http_client(self):
        if not self.certificate:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        context = self.certificate.client_context()
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=READY_SECONDS, context=context)

    def try_request(self):
        """Makes one request; returns what is wrong with the answer, or None."""
        client = self.http_client()
        try:
            client.request("POST", PATH, REQUEST, {"Content-Type": "application/json"})
            response = client.getresponse()
            body = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as e:
            return repr(e)
        finally:
            client.close()
        if response.status != 200 or not same_json(body, ANSWER):
            return f"status {response.status}, body {body[:200]!r}"
        head = [f"{k}: {v}\r\n" for k, v in response.getheaders()]
        self.answer_bytes = len("HTTP/1.1 200 OK\r\n") + sum(map(len, head)) + 2 + len(body)
        return None

    def logs(self):
        processes = [p for p in (self.front, self.worker) if p]
        text = "\n".join(common.tail(common.read(p.log)) for p in processes)
        return "\n" + text if text.strip() else ""


def same_json(a, b):
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


class Limit(Server):
    """Answers by itself; nothing that forwards can cost less."""

    name = "limit"
    has_tls = False
    targets = ["tests/bench/bench_limit"]

    def start_front(self):
        self.front = self.start_limit("front", f"127.0.0.1:{self.port}")


class Proxy(Server):
    """A front with the limit as its worker, on a UNIX socket."""

    targets = ["tests/bench/bench_limit"]

    def start_worker(self):
        self.worker = self.start_limit("worker", "unix:" + self.path("app.sock"))
        self.wait_for_socket(self.path("app.sock"))


NGINX = """
{user}
daemon off;
pid {path}pid;
error_log stderr error;
worker_processes {workers};
{main}
worker_rlimit_nofile {descriptors};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {path}body;
    proxy_temp_path {path}proxy;
    fastcgi_temp_path {path}fastcgi;
    uwsgi_temp_path {path}uwsgi;
    scgi_temp_path {path}scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    upstream app {{
        server unix:{path}app.sock;
        keepalive 4096;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096 {listen};
        {tls}
        {locations}
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""

# Until 1.23.4 nginx speaks TLS 1.3 only where it is told to.
NGINX_TLS = """ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;"""


class Nginx(Proxy):
    name = "nginx"
    program = "nginx"
    workers = 1
    # More of its config: outside of all blocks, behind `listen`, beside the one location.
    main = ""
    listen = ""
    locations = ""

    def start_front(self):
        config = self.config(
            NGINX.format(
                # As root its worker would become another user, who may not enter our folder.
                user="user root;" if os.geteuid() == 0 else "",
                path=self.path(""),
                port=self.port,
                workers=self.workers,
                main=self.main,
                listen=self.listen + (" ssl" if self.certificate else "") + (" http2" if self.h2 else ""),
                tls=NGINX_TLS.format(**vars(self.certificate)) if self.certificate else "",
                locations=self.locations,
                connections=CONNECTIONS,
                descriptors=CONNECTIONS + 500,
            )
        )
        # -e: where it logs until the config has been read; the default may not be writable.
        self.front = self.spawn("front", [common.tool("nginx"), "-e", "stderr", "-c", config])


HAPROXY = """
global
    nbthread {threads}
    {options}
    maxconn {connections}
    # It wants two descriptors a client and would not start otherwise; it never needs them here.
    no strict-limits
    # By default it stops keeping connections to the worker when a fifth of the descriptors is used.
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95
defaults
    mode http
    timeout connect 30s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    timeout tunnel 1h
    option http-keep-alive
    http-reuse always
    no log
frontend web
    bind 127.0.0.1:{port} backlog 4096 {tls}
    maxconn {connections}
    default_backend app
backend app
    server app unix@{path}app.sock
"""


class Haproxy(Proxy):
    name = "haproxy"
    program = "haproxy"
    threads = 1
    options = ""  # more of its section `global`
    mode = ["-db"]  # in the foreground

    def tls_options(self):
        alpn = " alpn h2,http/1.1" if self.h2 else ""
        return f"ssl crt {self.certificate.both}{alpn}" if self.certificate else ""

    def start_front(self):
        config = self.config(
            HAPROXY.format(
                path=self.path(""),
                port=self.port,
                threads=self.threads,
                tls=self.tls_options(),
                options=self.options,
                connections=CONNECTIONS,
            )
        )
        self.front = self.spawn("front", [common.tool("haproxy")] + self.mode + ["-f", config])


H2O = """
{user}
num-threads: 1
max-connections: {connections}
http1-request-timeout: 3600
http2-idle-timeout: 3600
listen:
  host: 127.0.0.1
  port: {port}
  {tls}
hosts:
  default:
    paths:
      /:
        proxy.reverse.url: "http://[unix:{path}app.sock]"
        proxy.timeout.keepalive: 3600000
"""

H2O_TLS = "ssl: {{certificate-file: {cert}, key-file: {key}}}"


class H2o(Proxy):
    """Not among those that throughput compares with: it is here for its few bytes of HTTP/2."""

    name = "h2o"
    program = "h2o"

    def start_front(self):
        config = self.config(
            H2O.format(
                # As for nginx.
                user="user: root" if os.geteuid() == 0 else "",
                path=self.path(""),
                port=self.port,
                tls=H2O_TLS.format(**vars(self.certificate)) if self.certificate else "",
                connections=CONNECTIONS,
            )
        )
        command = [common.tool("h2o"), "-m", "worker", "-c", config]
        self.front = self.spawn("front", command)


FRONTD = """
run_dir: {path}run
shards: {shards}
drain: {drain}s
listeners:
  - name: web
    address: 127.0.0.1:{port}
    {tls}
    protocol: http
    routes:
      - path: {route}
        kind: jsonrpc
        pool: app
      - path: {ws_route}
        kind: websocket
        pool: app
        # A ping would be something that happens on an idle connection.
        ping: 1h
  - name: frames
    address: 127.0.0.1:{frame_port}
    {tls}
    protocol: frame
    pool: app
    ping: 1h
pools:
  - name: app
    workers: ["unix:{path}app-*.sock"]
    queue: 10000
"""

FRONTD_TLS = "tls: {{certificates: [{{cert: {cert}, key: {key}}}]{alpn}}}"


class Frontd(Server):
    """Takes WebSockets too, and framed TCP on its `frame_port`."""

    name = "frontd"
    shards = 1
    drain = 30
    programs = ["frontd/frontd", "workerd/workerd"]
    modules = ["workerd/modules/demo.so", "tests/bench/bench_topic.so"]
    targets = programs + modules

    def start_worker(self):
        sock = self.path("app-1.sock")
        command = [self.built("workerd/workerd"), "--listen", "unix:" + sock]
        for module in self.modules:
            command += ["--module", self.built(module)]
        self.worker = self.spawn("worker", command + ["--concurrency", "0"])
        self.wait_for_socket(sock)

    def start_front(self):
        self.frame_port = common.free_port()
        config = self.write_config()
        self.front = self.spawn("front", [self.built("frontd/frontd"), "-c", config])

    def tls_options(self):
        alpn = ", alpn: [h2, http/1.1]" if self.h2 else ""
        return FRONTD_TLS.format(**vars(self.certificate), alpn=alpn) if self.certificate else ""

    def write_config(self):
        return self.config(
            FRONTD.format(
                path=self.path(""),
                shards=self.shards,
                tls=self.tls_options(),
                drain=self.drain,
                port=self.port,
                frame_port=self.frame_port,
                route=PATH,
                ws_route=WS_PATH,
            )
        )


ALL = [Limit, Nginx, Haproxy, Frontd]


def select(names, of):
    """The classes of a comma-separated list of names; None: all."""
    classes = {c.name: c for c in of}
    wanted = list(classes) if names is None else names.split(",")
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        raise BenchError(f"no server {', '.join(unknown)} (there are: {', '.join(classes)})")
    return [classes[name] for name in classes if name in wanted]


def prepare(classes, build_dir, more_tools=(), more_targets=()):
    """Installs and builds what the servers need."""
    common.install_missing([c.program for c in classes if c.program] + list(more_tools))
    common.build(sorted({t for c in classes for t in c.targets} | set(more_targets)), build_dir)
