"""`frontd --check --bind`: what a config needs where and when frontd starts, tried without leaving anything."""
import os
import re
import socket
import stat
import subprocess

import pytest

from harness import FRONTD, rpc_route, wait_for

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def check(web, *argv, before=(), **changes):
    """Findings as {key: what}, in one line each; None where the config is all right."""
    config = web.write({**web.config, **changes})
    os.chmod(config, 0o644)
    done = subprocess.run([*before, FRONTD, "--check", *(argv or ("--bind",)), "-c", config],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    if done.returncode == 0:
        assert done.stderr == ""
        return None
    assert done.returncode == 1, done
    found = {}
    with open(config) as f:
        lines = f.read().splitlines()
    for line in done.stderr.splitlines():
        number, key, what = re.fullmatch(re.escape(config) + r":(\d+): ([\w.\[\]]+): (.*)", line).groups()
        assert key.split(".")[-1].split("[")[0] in lines[int(number) - 1] or key.endswith("]"), line
        assert key not in found
        found[key] = what
    return found


def listeners(*addresses):
    return [{"name": "l%d" % n, "address": address, "routes": [rpc_route()]} for n, address in enumerate(addresses)]


def tree(folder):
    """All that is in a folder, with what would change if it was touched."""
    found = {}
    for top, dirs, files in os.walk(folder):
        for name in [".", *dirs, *files]:
            st = os.lstat(os.path.join(top, name))
            found[os.path.join(top, name)] = (st.st_ino, st.st_mode, st.st_mtime_ns)
    return found


def bound(path, listens=True):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    if listens:
        sock.listen()
    return sock


def test_a_good_config_leaves_nothing(site):
    web = site()
    config = dict(web.config, listeners=listeners("127.0.0.1:%d" % web.port, "localhost:%d" % (web.port + 1), "[::1]:%d" % web.port,
                                                  "unix:" + web.path("l.sock"), "unix:" + web.path("run/in.sock")))
    config["pools"].append({"name": "own", "command": ["sh", "-c", "exit 1"]})
    config["pools"].append({"name": "mine", "workers": ["unix:" + web.path("run/*.sock"), "tcp://localhost:1"]})
    web.write(config)
    before = tree(web.dir)
    assert check(web, **config) is None
    after = tree(web.dir)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {web.path("frontd.yaml"), web.dir + "/."}      # the config is written by this test
    assert sorted(os.listdir(web.dir)) == ["frontd.yaml"]
    assert not os.path.exists(web.path("run"))


@pytest.mark.parametrize("reuse", [False, True])
def test_a_taken_port(site, reuse):
    """Also where it could be shared: a start asks whether anybody listens at all."""
    web = site()
    with socket.socket() as taken:
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(web.address)
        taken.listen()
        found = check(web)
        assert check(web, "-c", "/dev/null", "-c", web.path("frontd.yaml")) is None     # without --bind
    assert list(found) == ["listeners[0].address"]
    assert "cannot listen on 127.0.0.1:%d: somebody listens there already" % web.port in found["listeners[0].address"]
    assert "at a reload that may be the frontd that is reloaded" in found["listeners[0].address"]
    assert check(web) is None


def test_an_address_of_somebody_else(site):
    web = site()
    found = check(web, listeners=listeners("192.0.2.1:%d" % web.port))
    assert "Cannot assign requested address" in found["listeners[0].address"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs somebody else")
def test_a_low_port_without_the_right(site):
    web = site()
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        if int(f.read()) < 1024:
            pytest.skip("everybody may bind ports below 1024 here")
    os.chmod(web.dir, 0o1777)
    found = check(web, before=NOBODY, listeners=listeners("127.0.0.1:1023"))
    assert found == {"listeners[0].address": "cannot listen on 127.0.0.1:1023: Permission denied"}


def test_what_is_at_a_unix_path(site):
    web = site()
    open(web.path("file"), "w").close()
    os.mkdir(web.path("folder"))
    bound(web.path("stale")).close()
    with bound(web.path("live")):
        before = tree(web.dir)
        found = check(web, listeners=listeners(*("unix:" + web.path(name) for name in
                      ("file", "folder", "stale", "live", "no/such", "file/below", "new"))))
        left = tree(web.dir)
    for path in (web.path("frontd.yaml"), web.dir + "/."):      # written by check()
        before.pop(path, None), left.pop(path, None)
    assert left == before
    at = lambda n: found.pop("listeners[%d].address" % n)
    assert "there is a file of that name that is no socket" in at(0)
    assert "there is a file of that name that is no socket" in at(1)
    assert "somebody listens there already; at a reload that may be" in at(3)
    assert "there is no such folder" in at(4)
    assert "Not a directory" in at(5)
    assert not found        # stale and new


@pytest.mark.skipif(os.geteuid() != 0, reason="needs somebody else")
def test_unix_paths_of_others(site):
    web = site()
    os.chmod(web.dir, 0o777)
    os.mkdir(web.path("closed"), 0o755)
    bound(web.path("stale")).close()
    os.chmod(web.path("stale"), 0o666)
    found = check(web, before=NOBODY, listeners=listeners("unix:" + web.path("stale"), "unix:" + web.path("closed/l")))
    assert "there is a stale socket of another user" in found["listeners[0].address"]
    assert "Permission denied" in found["listeners[1].address"]


def test_run_dir(site):
    web = site()
    os.mkdir(web.path("run"))
    assert check(web) is None
    os.symlink("/nowhere", web.path("run/frontd.pid"))
    assert check(web) == {
        "run_dir": web.path("run/frontd.pid") + " is not a plain file of the user who runs frontd alone"}
    os.unlink(web.path("run/frontd.pid"))
    open(web.path("run/shards"), "w").close()
    assert check(web) == {"run_dir": web.path("run/shards") + " is no folder"}
    assert "Not a directory" in check(web, run_dir=web.path("run/shards"))["run_dir"]
    assert re.search("cannot make it: .*/no: No such file", check(web, run_dir=web.path("no/such"))["run_dir"])
    assert not os.path.exists(web.path("no"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs somebody else")
def test_run_dir_of_somebody_else(site):
    web = site()
    os.mkdir(web.path("run"))
    os.chmod(web.dir, 0o755)
    assert check(web, before=NOBODY) == {"run_dir": web.path("run") + ": Permission denied"}
    assert "Permission denied" in check(web, before=NOBODY, run_dir=web.path("other"))["run_dir"]
    os.chown(web.path("run"), 65534, 65534)
    os.mkdir(web.path("run/workers"))
    pools = [{"name": "app", "command": ["true"]}]
    assert check(web, before=NOBODY, pools=pools) == {"run_dir": web.path("run/workers") + " belongs to another user"}


SPOILT = {
    "writable": (lambda web: os.chmod(web.path("a/run"), 0o777), "others can write to it"),
    "of-another": (lambda web: os.chown(web.path("a/run"), 65534, 0), "it belongs to user 65534"),
    "a-link": (lambda web: (os.rename(web.path("a/run"), web.path("a/b")), os.symlink("b", web.path("a/run"))),
               "it is not a folder"),
    "writable-above": (lambda web: os.chmod(web.path("a"), 0o777), "'a' on the way can be written to by others"),
    "none-yet": (lambda web: (os.rmdir(web.path("a/run")), os.chmod(web.path("a"), 0o777)),
                 "'a' on the way can be written to by others"),
    "shards-of-another": (lambda web: (os.mkdir(web.path("a/run/shards")), os.chown(web.path("a/run/shards"), 1, 0)),
                          "shards is of user 1, mode 0755"),
    "shards-writable": (lambda web: (os.mkdir(web.path("a/run/shards")), os.chmod(web.path("a/run/shards"), 0o770)),
                        "shards is of user 0, mode 0770"),
    "record-writable": (lambda web: (open(web.path("a/run/supervisor.json"), "w").close(),
                                     os.chmod(web.path("a/run/supervisor.json"), 0o666)),
                        "supervisor.json is not a plain file"),
    "pid-twice": (lambda web: (open(web.path("x"), "w").close(), os.link(web.path("x"), web.path("a/run/frontd.pid"))),
                  "frontd.pid is not a plain file"),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("how", SPOILT)
def test_what_a_start_refuses_of_run_dir(site, how):
    """Said by the check, and indeed refused by a start."""
    web = site()
    spoil, words = SPOILT[how]
    os.makedirs(web.path("a/run"))
    web.config["run_dir"] = web.path("a/run")
    assert check(web) is None
    spoil(web)
    assert words in check(web)["run_dir"]
    done = subprocess.run([FRONTD, "-c", web.path("frontd.yaml")], stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == 1 and "run_dir" in done.stderr


def test_run_dir_with_a_slash_at_its_end(site):
    web = site()
    assert check(web, run_dir=web.path("run") + "/") is None


def test_names_users_and_programs(site):
    """Each of them is found, not the first alone; without --bind the first one is an error as ever."""
    web = site()
    changes = {
        "user": "nobody-of-this-name",
        "listeners": listeners("no-such-host.invalid:80", "127.0.0.1:%d" % web.port, "other.invalid:80"),
        "pools": [{"name": "app", "workers": ["tcp://third.invalid:1", "unix:" + web.path("no/*.sock"),
                                              "unix:" + web.path("*.sock")]},
                  {"name": "own", "command": ["no-such-program"]},
                  {"name": "not", "command": [web.path("frontd.yaml")]}]}
    found = check(web, **changes)
    assert found.pop("user") == "there is no user 'nobody-of-this-name'"
    for key in ("listeners[0].address", "listeners[2].address", "pools[0].workers[0]"):
        assert "the host cannot be resolved" in found.pop(key)
    assert "No such file or directory; frontd would look again once a second" in found.pop("pools[0].workers[1]")
    assert found.pop("pools[1].command[0]") == "'no-such-program': No such file or directory"
    assert "Permission denied" in found.pop("pools[2].command[0]")
    assert not found
    first = check(web, "-c", "/dev/null", **changes)
    assert len(first) == 1 and not os.path.exists(web.path("run"))


def test_a_wrong_config_is_told_as_ever(site):
    web = site()
    assert check(web, shards=0) == {"shards": "not a number from 1 to 31: '0'"}


def test_a_running_frontd_is_not_disturbed(site):
    """Its addresses and its run_dir are taken, by itself; it serves on, and logs nothing."""
    web = site(shards=2)
    web.config["listeners"].append({"name": "local", "address": "unix:" + web.path("l.sock"), "routes": [rpc_route()]})
    web.fake()
    web.start()
    with web.client() as client:
        assert client.rpc("demo.echo", [1]).status == 200
        wait_for(lambda: " ready: " in web.front.text(), "the last line of the start")
        said = web.front.text()
        for _ in range(3):
            found = check(web)
            assert set(found) == {"listeners[0].address", "listeners[1].address", "run_dir"}
            assert "another frontd runs with it, process %d" % web.front.pid in found["run_dir"]
            assert all("at a reload that may be" in what for what in found.values())
        assert client.rpc("demo.echo", [2]).status == 200
    assert web.front.text() == said
    assert stat.S_ISSOCK(os.stat(web.path("l.sock")).st_mode)
    assert web.rpc("demo.echo", [3]).status == 200


def test_bind_is_part_of_a_check(site):
    web = site()
    done = subprocess.run([FRONTD, "--bind", "-c", web.write()], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "usage:" in done.stderr
    shown = subprocess.run([FRONTD, "--help"], capture_output=True, text=True, timeout=20).stdout
    assert "--check --bind -c FILE" in shown and "--identify" not in shown and "--state" not in shown
