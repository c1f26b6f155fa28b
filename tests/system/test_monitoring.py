"""docs/monitoring: rules that Prometheus takes and that fire, a dashboard, and no metric that frontd does not have."""
import json
import os
import re
import shutil
import subprocess

import pytest

from harness import ROOT

FOLDER = os.path.join(ROOT, "docs", "monitoring")


def read(*path):
    with open(os.path.join(ROOT, "docs", *path), encoding="utf-8") as file:
        return file.read()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("words", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")])
def test_rules(words):
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_every_rule_is_tried():
    rules = set(re.findall(r"- alert: (\w+)", read("monitoring", "alerts.yaml")))
    tried = set(re.findall(r"alertname: (\w+)", read("monitoring", "alerts_test.yaml")))
    assert rules == tried and len(rules) >= 15
    assert "value: %d}" % len(rules) in read("monitoring", "alerts_test.yaml")


def test_the_metrics_are_there():
    """Those that rules and the dashboard ask for are in the table of docs/metrics.md, which another test holds to the code."""
    known = set(re.findall(r"^\| `(frontd_\w+)`", read("metrics.md"), re.M))
    text = read("monitoring", "alerts.yaml") + read("monitoring", "alerts_test.yaml") + read("monitoring", "frontd-dashboard.json")
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bfrontd_[a-z_]+", text)}
    assert len(asked) > 20 and asked <= known, asked - known


def test_the_dashboard():
    board = json.loads(read("monitoring", "frontd-dashboard.json"))
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) > 15 and len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["targets"] and all("$instance" in target["expr"] for target in panel["targets"]), panel["title"]
