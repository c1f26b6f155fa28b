"""The project's own C files and what they include; shared by scripts/check-includes and scripts/lint."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def tracked(*patterns):
    """Paths of the tracked files that match, relative to the root, those that are deleted left out."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [path for path in out.split("\0") if path and (ROOT / path).is_file()]


def includes(path):
    """What a file includes: a list of (line number, quoted?, name)."""
    found = []
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            found.append((number, match[1] == '"', match[2]))
    return found


def closure(path, seen=None):
    """A file and all of ours that it includes, directly or not."""
    seen = set() if seen is None else seen
    if path not in seen and (ROOT / path).is_file():
        seen.add(path)
        for _, quoted, name in includes(path):
            if quoted:
                closure(name, seen)
    return seen
