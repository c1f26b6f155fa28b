"""workerd in a folder that a symbolic link leads to, which is switched to the next release."""
import os
import shutil
import signal
import sys

import pytest

import harness
from fakefront import FakeFront, until
from harness import DEMO, WORKERD
from test_workerd_reload import SERVES
from workerproc import WorkerProcess

GO = "import os, sys\nos.chdir(sys.argv[1])\nos.execvp(sys.argv[2], sys.argv[2:])"


class WorkerReleases(WorkerProcess):
    """Folders r1, r2 and r3 with workerd and a module, and a link `current`, in which `words` start it."""

    def __init__(self, folder, words=("./workerd",), socket=None):
        self.folder = folder
        for n in (1, 2, 3):
            (folder / f"r{n}").mkdir()
            shutil.copy(WORKERD, folder / f"r{n}")
            shutil.copy(DEMO, folder / f"r{n}")
        self.switch(1)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("NOTIFY_SOCKET", "SYSTEMD_EXEC_PID", "LISTEN_FDS", "LISTEN_PID"):
                patch.delenv(name, raising=False)
            super().__init__(["setsid", "--wait", sys.executable, "-c", GO, str(folder / "current"), *words,
                              "--listen", "unix:" + (socket or f"{folder}/w.sock"), "--module", "./demo.so"],
                             f"unix:{folder}/{'r1/' if socket else ''}w.sock", folder / "log",
                             env={"PWD": str(folder / "current"), "PATH": ".:" + os.environ["PATH"]})
        self.wait_until_up()

    def switch(self, n):
        os.symlink(f"r{n}", self.folder / "next")
        os.rename(self.folder / "next", self.folder / "current")

    def serving(self):
        """The process that answers, and the releases that its program and its module are of."""
        with FakeFront(self.address) as front:
            pid = front.hello()["pid"]
            assert front.call("demo.add", [20, 22])["result"] == 42
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            module, = {line.split()[-1] for line in file if "demo.so" in line}
        of = lambda path: os.path.relpath(path, os.path.realpath(self.folder)).split("/")[0]
        return pid, of(os.readlink(f"/proc/{pid}/exe")), of(module)

    def replace(self):
        said = len(SERVES.findall(self.output()))
        os.kill(self.serving()[0], signal.SIGUSR2)
        until(lambda: len(SERVES.findall(self.output())) > said, "the successor")

    def end(self):
        pid = self.serving()[0]
        os.kill(pid, signal.SIGTERM)
        until(lambda: not harness.stat(pid) or harness.stat(pid)[0] in "ZX", "the end")
        assert "Sanitizer" not in self.output()


@pytest.mark.parametrize("words", [("./workerd",), ("workerd",), ("../current/workerd",)], ids=["here", "path", "around"])
def test_the_next_release_of_workerd(tmp_path, words):
    """Its program and its modules; again and again."""
    worker = WorkerReleases(tmp_path, words)
    for n in (2, 3, 1):
        worker.switch(n)
        worker.replace()
        assert worker.serving()[1:] == (f"r{n}", f"r{n}")
    if "current" not in words[0]:
        os.unlink(tmp_path / "current")     # nothing better is known than where it is
        worker.replace()
        assert worker.serving()[1:] == ("r1", "r1")
    worker.end()
    assert not os.path.exists(tmp_path / "w.sock")


def test_a_socket_in_the_folder_of_an_old_release(tmp_path):
    """It is removed by who serves last, wherever that was started."""
    worker = WorkerReleases(tmp_path, socket="w.sock")
    worker.switch(2)
    worker.replace()
    assert worker.serving()[1:] == ("r2", "r2")
    worker.end()
    assert not os.path.lexists(tmp_path / "r1/w.sock")
