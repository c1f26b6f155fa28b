"""frontd --check --explain: what a config says of a call, and in which lines."""
import os
import subprocess

import pytest

from harness import BUILD

CONFIG = """\
listeners:
  - name: web
    address: 127.0.0.1:18080
    deny: [203.0.113.0/24]
    routes:
      - path: /rpc
        kind: jsonrpc
        pool: app
        timeout: 7s
        deny_methods: ["admin.*"]
        rate: [{per: peer, rate: 600/m, burst: 50}]
        methods:
          - {match: "report.*", timeout: 5m, calls: 4}
          - {match: orders.create, idempotent: true}
      - {path: /site, kind: http, pool: app, allow: ["fd00::/8"], canary: {pool: next, percent: 5, header: X-Try}}
      - path: /ws
        kind: websocket
        pool: app
        cross_site: refuse
        auth: {jwt: {jwks: JWKS, issuer: me, audience: [a], query: q, cookie: c, expires: close}}
  - {name: lines, address: 127.0.0.1:18081, protocol: line, pool: app, calls: 3}
pools:
  - {name: app, workers: ["unix:/tmp/explained.sock"]}
  - {name: next, workers: ["unix:/tmp/next.sock"]}
"""


def explain(tmp_path, *arguments):
    path = os.path.join(tmp_path, "frontd.yaml")
    keys = os.path.join(tmp_path, "keys.json")
    with open(keys, "w", encoding="utf-8") as file:     # RFC 8037's example
        file.write('{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}')
    with open(path, "w", encoding="utf-8") as file:
        file.write(CONFIG.replace("JWKS", keys))
    return subprocess.run([os.path.join(BUILD, "frontd", "frontd"), "--check", *arguments, "-c", path],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)


@pytest.mark.parametrize("method, path, said", [
    ("report.x", "/rpc/a", ["route /rpc (line 6)", "timeout: 300000 ms (line 13)", "calls: 4 (line 13)",
                            "one in 100000 us, 50 at once, per peer (line 11)", "pool: app (line 23)",
                            "addresses, listener: deny 203.0.113.0/24"]),
    ("admin.x", "/rpc", ["denied: -32601, or 403 on kind: http (line 10)", "timeout: 7000 ms (line 9)"]),
    ("orders.create", "/rpc", ["idempotent: true (line 14)", "timeout: 7000 ms (line 9)"]),
    ("frontd.connect", "/rpc", ["refused: -32601"]),
    ("GET", "/site/x", ["route /site (line 15), kind http", "addresses, route: allow fd00::/8", "timeout: 30000 ms (default)",
                       "canary: pool next (line 24) for 5 % of clients, and where x-try says always, not never"]),
    ("a", "/ws", ["token: of issuer me, in authorization, the parameter q, the cookie c; the connection ends with it (line 20)"]),
    ("a", "/none", ["listener lines (line 21)", "calls: 3 (line 21)"]),
])
def test_it_says_what_applies(tmp_path, method, path, said):
    done = explain(tmp_path, "--explain", method, path)
    assert done.returncode == 0, done.stderr
    for text in said:
        assert text in done.stdout, done.stdout


@pytest.mark.parametrize("arguments", [["--explain", "a"], ["--explain", "a", "rpc"], ["--bind", "--explain", "a", "/"]])
def test_what_is_no_question(tmp_path, arguments):
    done = explain(tmp_path, *arguments)
    assert done.returncode == 2 and "usage" in done.stderr
