"""What is installed for systemd: units, users, folders. systemd itself judges it, without running."""
import json
import os
import re
import shutil
import stat
import subprocess

import pytest

from harness import BUILD, ROOT

UNITS = ["frontd.service", "workerd@.service"]


def run(*argv, **keys):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, **keys)
    assert done.returncode == 0, "%s: %s%s" % (" ".join(argv), done.stdout, done.stderr)
    return done


def build_options(build):
    found = json.loads(run("meson", "introspect", build, "--buildoptions").stdout)
    return {option["name"]: option["value"] for option in found}


def installed_by(build):
    """Where each file of scripts/systemd goes, by its name in that folder."""
    found = json.loads(run("meson", "introspect", build, "--installed").stdout)
    return {os.path.basename(source): target for source, target in found.items()
            if "scripts/systemd" in source}


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """(root, prefix): the build under test, installed below a folder of its own."""
    root = str(tmp_path_factory.mktemp("staged"))
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", env={**os.environ, "DESTDIR": root})
    yield root, build_options(BUILD)["prefix"]
    shutil.rmtree(root, ignore_errors=True)


def unit_path(staged, name):
    root, prefix = staged
    return root + prefix + "/lib/systemd/system/" + name


def read(path):
    with open(path) as f:
        return f.read()


def test_installed_where_systemd_looks(staged):
    root, prefix = staged
    for name in ("lib/systemd/system/frontd.service", "lib/systemd/system/workerd@.service",
                 "lib/sysusers.d/frontd.conf", "lib/tmpfiles.d/frontd.conf", "share/doc/frontd/frontd.socket"):
        path = "%s%s/%s" % (root, prefix, name)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o644, path


def test_units_name_what_is_installed(staged):
    root, prefix = staged
    for name in UNITS:
        text = read(unit_path(staged, name))
        assert not re.search(r"@\w+dir@", text)
        program, = set(re.findall(r"^Exec\w+=(/\S+)", text, re.M))
        assert program.startswith(prefix + "/") and os.access(root + program, os.X_OK)


def test_other_folders_or_none(tmp_path):
    """-Dsystemd_unit_dir=DIR, and -Dsystemd=false."""
    build = str(tmp_path / "build")
    run("meson", "setup", build, ROOT, "--prefix=/usr", "-Dtests=false", "-Dsystemd_unit_dir=/lib/systemd/system")
    assert installed_by(build) == {
        "frontd.service": "/lib/systemd/system/frontd.service",
        "workerd@.service": "/lib/systemd/system/workerd@.service",
        "sysusers.conf": "/usr/lib/sysusers.d/frontd.conf",
        "tmpfiles.conf": "/usr/lib/tmpfiles.d/frontd.conf",
        "frontd.socket": "/usr/share/doc/frontd/frontd.socket"}
    assert "ExecStart=/usr/bin/frontd -c /etc/frontd.yaml\n" in read(build + "/scripts/systemd/frontd.service")
    run("meson", "setup", "--reconfigure", build, "-Dsystemd=false")
    assert installed_by(build) == {}


@pytest.fixture
def units(staged, tmp_path):
    """Units whose programs are where the build was installed for the test, so that systemd finds them."""
    root, prefix = staged
    paths = []
    for name in [unit_path(staged, name) for name in UNITS] + [root + prefix + "/share/doc/frontd/frontd.socket"]:
        paths.append(str(tmp_path / os.path.basename(name)))
        with open(paths[-1], "w") as f:
            f.write(re.sub(r"(?m)^(Exec\w+=)/", r"\g<1>%s/" % root, read(name)))
    return paths


def test_units_are_right(units):
    """A key that it does not know is an error, in these units alone."""
    run("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *units)


@pytest.mark.parametrize("unit", [0, 1], ids=UNITS)
def test_units_are_shut_in(units, unit):
    """At most 2.0 of 10, as `systemd-analyze security` counts."""
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", units[unit])


def test_what_units_rely_on():
    """Each user, group and folder that a unit names is in the snippets."""
    users = read(ROOT + "/scripts/systemd/sysusers.conf")
    for name in UNITS:
        text = read("%s/scripts/systemd/%s.in" % (ROOT, name))
        for user in re.findall(r"^(?:User|Group|SupplementaryGroups)=(\S+)", text, re.M):
            assert re.search(r"^u\s+%s\s" % user, users, re.M), user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and give folders away")
def test_users_and_folders(staged, tmp_path):
    root, prefix = staged
    system = str(tmp_path)
    os.mkdir(system + "/etc")
    run("systemd-sysusers", "--root=" + system, root + prefix + "/lib/sysusers.d/frontd.conf")
    ids = {}
    for line in read(system + "/etc/passwd").splitlines():
        fields = line.split(":")
        ids[fields[0]] = int(fields[2])
        assert fields[6].endswith("/nologin")
    assert set(ids) == {"frontd", "frontd-worker"}
    run("systemd-tmpfiles", "--create", "--root=" + system, root + prefix + "/lib/tmpfiles.d/frontd.conf")
    found = os.stat(system + "/run/frontd-workers")
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o750, ids["frontd-worker"])
