"""Paths as the user gave them: programs, configs and modules in a folder that a symbolic link leads to, which is
switched to the next release. workerd: test_workerd_paths.py."""
import os
import shutil
import sys

import pytest

from harness import FRONTD, LIMIT, Program, wait_for
from reloads import HUP, USR2, Front, call
from test_managed_workers import LIBRARY, SCRIPT, serving, workers

GO = "import os, sys\nos.chdir(sys.argv[1])\nos.execvp(sys.argv[2], sys.argv[2:])"


class Releases(Front):
    """Folders r1, r2, … with a program and a config each, that of release n with n shards; `current` is a link to
    one of them. frontd is started there with `words`; CURRENT in them, and in `search`, which goes before $PATH,
    is the link's path, and FOLDER that of the folder around all."""

    def __init__(self, words, search=None, pwd="current", **keys):
        super().__init__(**keys)
        self.words, self.search, self.pwd = words, search, pwd
        self.fake()
        for n in (1, 2, 3):
            os.makedirs(self.path("r%d/bin" % n))
            self.install(n, "frontd")
            self.install(n, "bin/frontd")
            self.configure(n, shards=n)
        self.switch(1)
        self.write()

    def install(self, n, name):
        path = self.path("r%d/%s" % (n, name))
        shutil.copy2(FRONTD, path + ".new")
        os.rename(path + ".new", path)

    def configure(self, n, **changes):
        self.write({**self.config, **changes}, "r%d/frontd.yaml" % n)

    def switch(self, n):
        os.symlink("r%d" % n, self.path("next"))
        os.rename(self.path("next"), self.path("current"))

    def launch(self, ready=True):
        current = lambda text: text.replace("CURRENT", self.path("current")).replace("FOLDER", self.dir)
        words = [current(word) for word in self.words]
        with pytest.MonkeyPatch.context() as patch:
            if self.search is not None:
                patch.setenv("PATH", current(self.search) + ":" + os.environ["PATH"])
            patch.delenv("PWD", raising=False)
            if self.pwd:
                patch.setenv("PWD", self.path(self.pwd))
            self.front = Program([sys.executable, "-c", GO, self.path("current"), *words], self.path("frontd.log"))
        wait_for(lambda: self.count("ready: ") or not self.front.running(), "the start")
        self.wait_served()
        return self

    def release(self):
        """Of which one the supervisor's program is; 0 where its file is gone."""
        found = os.readlink("/proc/%d/exe" % self.front.pid)
        return 0 if found.endswith("(deleted)") else int(os.path.relpath(found, os.path.realpath(self.dir))[1])

    def family(self):
        return self.front.family()


@pytest.fixture
def releases():
    made = []

    def make(*words, **keys):
        made.append(Releases(words, **keys))
        return made[-1].launch()
    yield make
    for one in made:
        one.stop()


WAYS = {
    "in the folder": ("./frontd", None),
    "below it": ("bin/frontd", None),
    "around it": ("../current/bin/frontd", None),
    "absolute": ("CURRENT/frontd", None),
    "in PATH": ("frontd", "CURRENT/bin"),
    "in PATH, relative": ("frontd", "bin"),
    "in PATH, the folder itself": ("frontd", ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_next_release_is_executed(releases, way):
    """By each way to write its path, and again and again: the second time it is a program that was executed."""
    word, search = WAYS[way]
    site = releases(word, "-c", "frontd.yaml", search=search)
    with site.client() as client:
        call(client)
        for n in (2, 3, 1):
            site.switch(n)
            site.config["shards"] = n
            reload(site, USR2)
            assert site.release() == n
            call(client)
        for name in ("frontd", "bin/frontd"):
            site.install(1, name)
        assert site.release() == 0
        reload(site, USR2)
        assert site.release() == 1
        call(client)


def reload(site, number):
    """Without writing a config of the site's own: as many shards as it says have to be there afterwards."""
    site.write = lambda: None
    site.reload(number)


def test_a_config_alone(releases):
    """Its path is the one that was given, too."""
    site = releases("./frontd", "-c", "./frontd.yaml")
    for n in (2, 3):
        site.switch(n)
        site.config["shards"] = n
        reload(site, HUP)
        assert site.release() == 1
    os.rename(site.path("r3/frontd.yaml"), site.path("r3/other"))
    reload_refused(site, "--check says (status 1): %s:1: cannot open it" % site.path("current/frontd.yaml"))


def reload_refused(site, words):
    shards, said = site.shards(), site.count(words)
    site.front.signal(HUP)
    site.wait_log(words, said + 1)
    wait_for(lambda: site.shards() == shards, "the old shards alone")


@pytest.mark.parametrize("pwd", [None, "r2", "nowhere", "r1/../current", "r1"])
def test_a_pwd_that_is_no_name_of_the_folder(releases, pwd):
    """What the shell has not said is not guessed: the folder is that of the start, whatever leads there."""
    site = releases("./frontd", "-c", "frontd.yaml", pwd=pwd)
    site.switch(2)
    for number in (USR2, HUP):
        reload(site, number)
        assert site.release() == 1


def test_a_folder_that_was_put_in_place_of_another(releases):
    """Without links: what has the name is meant."""
    site = releases("./frontd", "-c", "frontd.yaml", pwd=None)
    os.rename(site.path("r1"), site.path("old"))
    os.rename(site.path("r3"), site.path("r1"))
    site.config["shards"] = 3
    reload(site, USR2)
    assert site.release() == 1
    assert len(site.shards()) == 3


def test_a_folder_that_is_gone(releases):
    """SIGHUP goes on working with a config elsewhere; SIGUSR2 says what it has not found."""
    site = releases("./frontd", "-c", "FOLDER/frontd.yaml")
    shutil.rmtree(site.path("r1"))
    os.unlink(site.path("current"))
    site.reload(HUP)
    site.wait_log("the working directory %s: No such file" % site.path("current"))
    site.refused("cannot execute it: No such file or directory", USR2)
    site.switch(2)
    site.reload(USR2)
    assert site.release() == 2


def test_a_script_in_place_of_the_program(front):
    """The path stays the user's, also when it was a script that has executed another one."""
    site = front()
    site.fake()
    site.start()
    real = site.path("real")
    shutil.copy2(FRONTD, real)
    site.replace("#!/bin/sh\nexec %s \"$@\"\n" % real)
    site.reload(USR2)
    assert os.readlink("/proc/%d/exe" % site.front.pid) == os.path.realpath(real)
    site.replace()
    site.reload(USR2)
    assert os.readlink("/proc/%d/exe" % site.front.pid) == os.path.realpath(site.exe)


def test_a_path_that_is_no_utf8(releases):
    site = releases("./frontd", "-c", "frontd.yaml")
    for name in (b"\xff \"x\\", b"another\xfe"):
        os.makedirs(os.fsencode(site.dir) + b"/r1/" + name)
        shutil.copy2(FRONTD, os.fsencode(site.dir) + b"/r1/" + name + b"/frontd")
    site.front.stop()
    odd = os.fsdecode(b"\xff \"x\\")
    site.words = ("./%s/frontd" % odd, "-c", "frontd.yaml")
    site.front = None
    os.truncate(site.path("frontd.log"), 0)
    site.launch()
    for _ in range(2):
        shutil.copy2(FRONTD, site.path("r1/new"))
        os.rename(site.path("r1/new"), site.path("r1/%s/frontd" % odd))
        reload(site, USR2)
        assert site.release() == 1


def test_workers_of_the_next_release(releases):
    """A relative path in a command, and the folder that it starts in."""
    for_app = {"command": [sys.executable, "./worker.py", LIBRARY], "restart_delay": "50ms"}
    made = Releases(("./frontd", "-c", "frontd.yaml"), drain="10s")
    made.config["pools"] = [{"name": "app", **for_app}]
    for n in (1, 2, 3):
        shutil.copy(SCRIPT, made.path("r%d/worker.py" % n))
        made.configure(n)
    try:
        made.launch()

        def where():
            try:
                return [os.path.basename(os.readlink("/proc/%d/cwd" % pid)) for pid in workers(made)]
            except FileNotFoundError:
                return None     # one has ended whose end is not in the log yet
        wait_for(lambda: serving(made, 1), "the worker")
        assert where() == ["r1"]
        for n, number in ((2, HUP), (3, HUP)):
            made.switch(n)
            reload(made, number)
            wait_for(lambda: where() == ["r%d" % n], "the worker of release %d" % n, 3 * LIMIT)
        made.switch(1)
        reload(made, USR2)
        assert made.release() == 1 and where() == ["r3"], "SIGUSR2 leaves workers alone"
        reload(made, HUP)
        wait_for(lambda: where() == ["r1"], "the worker of release 1", 3 * LIMIT)
    finally:
        made.stop()
