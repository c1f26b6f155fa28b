"""What `meson install` installs, below a folder of its own (DESTDIR): all that is there works from there."""
import os
import re
import shutil
import subprocess
import sys

import pytest

from harness import BUILD, FRONTD, ROOT
from test_systemd import build_options, run
from workerproc import WorkerProcess


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(root, options of the build): where it is installed."""
    root = str(tmp_path_factory.mktemp("installed"))
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", env={**os.environ, "DESTDIR": root})
    yield root, build_options(BUILD)
    shutil.rmtree(root, ignore_errors=True)


def place(installed, kind, *names):
    root, options = installed
    return os.path.join(root + options["prefix"], options[kind], *names)


def python_library(installed):
    """The folder of the package for Python: below the prefix, but not the copy beside the documents."""
    root, options = installed
    found = [os.path.join(folder, "frontd_worker") for folder, folders, _ in os.walk(root + options["prefix"])
             if "frontd_worker" in folders and "/doc/" not in folder]
    assert len(found) == 1, found
    return found[0]


def test_what_is_there(installed):
    for kind, name in [("bindir", "frontd"), ("bindir", "frontctl"), ("bindir", "workerd"),
                       ("libdir", "libworkerd.so"),
                       ("libdir", "libworkerd.a"), ("libdir", "pkgconfig/workerd.pc"), ("libdir", "workerd/demo.so"),
                       ("includedir", "workerd/workerd.h")]:
        assert os.path.isfile(place(installed, kind, name)), name
    docs = place(installed, "datadir", "doc/frontd")
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "docs/example.yaml", "proto/PROTOCOL.md",
                 "proto/vectors/frames.txt", "proto/python/demo_worker.py", "proto/python/pyproject.toml",
                 "proto/python/frontd_worker/__init__.py", "proto/node/package.json", "proto/node/README.md", "proto/node/example.js"):
        assert os.path.isfile(os.path.join(docs, name)), name
    # No document is forgotten.
    assert sorted(os.listdir(docs + "/docs")) == sorted(set(os.listdir(ROOT + "/docs")) - {"meson.build", "man"})
    for folder, _, files in os.walk(installed[0]):
        for name in files:
            path = os.path.join(folder, name)
            assert os.stat(path).st_mode & 0o444 == 0o444, path


@pytest.mark.skipif(shutil.which("scdoc") is None, reason="the manual was not made: there is no scdoc")
def test_the_manual(installed):
    """Each page is there, and those that are made of documents have all of them."""
    for name in ("man8/frontd.8", "man8/frontctl.8", "man8/workerd.8", "man5/frontd.yaml.5", "man7/frontd-protocol.7"):
        with open(place(installed, "mandir", name), encoding="utf-8") as file:
            page = file.read()
        assert page.count("\n.SH") >= 4, name
    with open(ROOT + "/docs/configuration.md", encoding="utf-8") as file:
        keys = re.findall(r"^\| `([a-z_]+)` \|", file.read(), re.M)
    with open(place(installed, "mandir", "man5/frontd.yaml.5"), encoding="utf-8") as file:
        page = file.read().replace("\\", "")
    assert len(keys) > 40 and all(f"fB{key}" in page for key in keys), [key for key in keys if f"fB{key}" not in page]


def test_documents_name_each_other(installed):
    """Each relative link leads somewhere, also from where they are installed."""
    docs = place(installed, "datadir", "doc/frontd")
    links = 0
    for folder, _, files in os.walk(docs):
        for name in (name for name in files if name.endswith(".md")):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = re.sub(r"^```.*?^```$", "", file.read(), flags=re.S | re.M)
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
                links += 1
                assert os.path.exists(os.path.join(folder, target)), (name, target)
    assert links > 50


def test_the_example_is_a_config(installed):
    run(place(installed, "bindir", "frontd"), "--check", "-c",
        place(installed, "datadir", "doc/frontd/docs/example.yaml"))


def test_the_demo_worker_of_workerd(installed, tmp_path):
    worker = WorkerProcess([place(installed, "bindir", "workerd"), "--listen", f"unix:{tmp_path}/w.sock", "--module",
                            place(installed, "libdir", "workerd/demo.so")], f"unix:{tmp_path}/w.sock",
                           tmp_path / "log").wait_until_up()
    try:
        assert worker.front().call("demo.add", [1, 2])["result"] == 3
    finally:
        worker.kill()


@pytest.mark.parametrize("where", ["for python", "beside the documents"])
def test_the_demo_worker_of_the_python_library(installed, tmp_path, where):
    demo = place(installed, "datadir", "doc/frontd/proto/python/demo_worker.py")
    path = ""
    if where == "for python":
        path = os.path.dirname(python_library(installed))
        demo = shutil.copy(demo, tmp_path)
    worker = WorkerProcess([sys.executable, demo, "--listen", f"unix:{tmp_path}/w.sock"], f"unix:{tmp_path}/w.sock",
                           tmp_path / "log", env={"PYTHONPATH": path}).wait_until_up()
    try:
        assert worker.front().call("demo.add", [1, 2])["result"] == 3
    finally:
        worker.kill()


def test_the_python_library_is_whole(installed):
    """Both copies have each file of the package."""
    whole = {name for name in os.listdir(ROOT + "/proto/python/frontd_worker") if name != "__pycache__"}
    for folder in (python_library(installed), place(installed, "datadir", "doc/frontd/proto/python/frontd_worker")):
        assert set(os.listdir(folder)) - {"__pycache__"} == whole


def test_the_node_library_is_whole(installed):
    lib = place(installed, "datadir", "doc/frontd/proto/node/lib")
    assert sorted(os.listdir(lib)) == sorted(os.listdir(ROOT + "/proto/node/lib"))


def demo_answers(demo, tmp_path, path):
    """Run the demo worker with the library that is found in `path`, and ask it something."""
    worker = WorkerProcess([sys.executable, shutil.copy(demo, tmp_path), "--listen", f"unix:{tmp_path}/w.sock"],
                           f"unix:{tmp_path}/w.sock", tmp_path / "log", env={"PYTHONPATH": str(path)}).wait_until_up()
    try:
        assert worker.front().call("demo.add", [1, 2])["result"] == 3
    finally:
        worker.kill()


def test_pip_installs_the_python_library(tmp_path):
    """Without a network, with what Debian has."""
    source = shutil.copytree(ROOT + "/proto/python", tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    run("/usr/bin/python3", "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation",
        "--root-user-action=ignore", "--target", str(tmp_path / "lib"), str(source))
    version = re.search(r"^  version : '(.*)'", open(ROOT + "/meson.build", encoding="utf-8").read(), re.M)[1]
    assert (tmp_path / "lib" / f"frontd_worker-{version}.dist-info").is_dir()
    assert (tmp_path / "lib" / "frontd_worker" / "py.typed").is_file()
    demo_answers(source / "demo_worker.py", tmp_path, tmp_path / "lib")


def test_the_python_library_as_one_file(tmp_path):
    """What scripts/single-file writes exports the same names, and works by itself."""
    (tmp_path / "frontd_worker.py").write_text(run(ROOT + "/scripts/single-file").stdout)
    names = "import frontd_worker; print(sorted(frontd_worker.__all__), frontd_worker.__file__)"
    one, package = (run("/usr/bin/python3", "-c", names, env={**os.environ, "PYTHONPATH": path}).stdout.split("] ")
                    for path in (str(tmp_path), ROOT + "/proto/python"))
    assert one[0] == package[0]
    assert one[1].strip() == str(tmp_path / "frontd_worker.py")
    demo_answers(ROOT + "/proto/python/demo_worker.py", tmp_path, tmp_path)


def test_a_program_with_the_library(installed, tmp_path):
    root, options = installed
    (tmp_path / "a.c").write_text("#include <workerd/workerd.h>\nint main(void) { return workerd_version()[0] == 0; }\n")
    config = ["pkg-config", "--define-variable=prefix=" + root + options["prefix"], "--cflags", "--libs", "workerd"]
    flags = run(*config, env={**os.environ, "PKG_CONFIG_PATH": place(installed, "libdir", "pkgconfig")}).stdout.split()
    assert any(flag.startswith("-I" + root) for flag in flags)
    run("cc", "-o", str(tmp_path / "a"), str(tmp_path / "a.c"), *flags)
    run(str(tmp_path / "a"), env={**os.environ, "LD_LIBRARY_PATH": place(installed, "libdir")})


def test_what_quickstart_builds():
    """The target `programs`: all that the documents use after scripts/quickstart, and no test."""
    inputs = run("ninja", "-C", BUILD, "-t", "inputs", "programs").stdout
    for name in ("frontd/frontd", "frontd/frontctl/frontctl", "workerd/workerd", "workerd/libworkerd.so.", "workerd/libworkerd.a",
                 "workerd/modules/demo.so"):
        assert re.search(r"^%s" % re.escape(name), inputs, re.M), name
    assert "tests/" not in inputs
    assert os.path.samefile(FRONTD, BUILD + "/frontd/frontd")


def test_setup_installs_no_more_than_is_needed():
    """Without --dev nothing that only tests need, and nothing that meson does not ask for."""
    with open(ROOT + "/scripts/setup", encoding="utf-8") as file:
        text = file.read()
    packages = re.search(r"^build_packages=\((.*?)^\)", text, re.S | re.M)[1].split()
    libraries = {name for name in packages if name.endswith("-dev")}
    with open(ROOT + "/meson.build", encoding="utf-8") as file:
        wanted = set(re.findall(r"^\w+ = dependency\('([\w.-]+)'", file.read(), re.M)) - {"threads"}
    assert wanted == {"libuv", "libcyaml", "yaml-0.1", "libcrypto", "libssl", "libseccomp",
                      "libnghttp2", "zlib", "libbrotlienc"}
    assert libraries == {"libc6-dev", "libuv1-dev", "libcyaml-dev", "libyaml-dev", "libssl-dev", "libseccomp-dev",
                         "libnghttp2-dev", "zlib1g-dev", "libbrotli-dev",
                         "uthash-dev"}
