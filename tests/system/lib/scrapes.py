"""What a front has counted, as bench_scrape prints it, and what holds of it at every moment."""
import collections
import os
import re
import subprocess

import harness

SCRAPE = os.path.join(harness.BUILD, "tests", "bench", "bench_scrape")
LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? ([0-9.]+)")
LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')


class Scrape:
    """{(name, labels): number}; labels are a sorted tuple of pairs."""

    def __init__(self, text):
        self.values = {}
        self.kinds = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.kinds[name] = kind
            elif not line.startswith("#"):
                name, labels, number = LINE.fullmatch(line).groups()
                key = name, tuple(sorted(LABEL.findall(labels or "")))
                assert key not in self.values, "twice: %s" % line
                self.values[key] = float(number)

    def sums(self, name, *by):
        """{values of these labels: the sum over all others}."""
        found = collections.defaultdict(float)
        for (of, labels), number in self.values.items():
            if of == name:
                found[tuple(dict(labels).get(label) for label in by)] += number
        return found

    def total(self, name, **labels):
        wanted = set(labels.items())
        return sum(number for (of, has), number in self.values.items() if of == name and wanted <= set(has))

    def grows(self):
        """What may never go back."""
        return {key: number for key, number in self.values.items()
                if re.search("_(total|count|sum|bucket)$", key[0])}

    def check(self):
        """What has begun is what has ended and what goes on."""
        for begun, ended, left, by in (
                ("frontd_connections_accepted_total", "frontd_connections_closed_total", "frontd_connections_open",
                 ("listener",)),
                ("frontd_requests_received_total", "frontd_requests_total", "frontd_requests_in_progress",
                 ("listener", "route")),
                ("frontd_calls_started_total", "frontd_calls_total", "frontd_calls_in_progress",
                 ("listener", "route", "pool"))):
            over, going = self.sums(ended, *by), self.sums(left, *by)
            for labels, number in self.sums(begun, *by).items():
                assert number == over[labels] + going[labels], (begun, labels, number, over[labels], going[labels])


def scrape(site, prefix=None):
    """None where the front has no supervisor at the moment."""
    done = subprocess.run([SCRAPE, str(site.front.pid)] + ([prefix] if prefix else []),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0 or "no memory of metrics" in done.stderr, done.stderr
    return Scrape(done.stdout) if done.returncode == 0 else None


def memory_uses(site):
    """What the shards say of their memory: bytes by use."""
    return {use: number for (use,), number in scrape(site, "frontd_memory_bytes").sums("frontd_memory_bytes", "use").items()}


class Watch:
    """Looks at a front again and again: what it says has to agree with itself, and with what it said before."""

    def __init__(self, site):
        self.site = site
        self.last = {}
        self.count = 0

    def look(self):
        now = scrape(self.site)
        if now is None:
            return None
        now.check()
        grows = now.grows()
        for key, before in self.last.items():
            assert grows.get(key, -1) >= before, "%s went back from %g to %s" % (key, before, grows.get(key))
        self.last = grows
        self.count += 1
        return now
