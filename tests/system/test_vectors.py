"""proto/vectors/ against two frame readers that were written apart: the tests' and the library's."""

import os
import re
import sys

import pytest

import fakefront
from fakefront import Refused, VECTORS, read_records, read_worker_hello

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "proto", "python"))
import frontd_worker  # noqa: E402

FIELDS = ("length", "type", "flags", "call", "conn", "meta", "body", "blob")
FRAMES = [dict(record) for record in read_records(os.path.join(VECTORS, "frames.txt"))]
HELLOS = read_records(os.path.join(VECTORS, "hello.txt"))


def name_of(record):
    return dict(record)["name"]


def by_tests(data, max_frame):
    """(result, frame, its size) as the tests' front reads it."""
    try:
        found = fakefront.decode(data, max_frame)
    except Refused as error:
        return str(error), None, 0
    return ("frame", *found) if found else ("more", None, 0)


def by_library(data, max_frame):
    """The same as frontd_worker reads it, at an offset that is not 0."""
    try:
        frame = frontd_worker.read_frame(b"xyz" + data, 3, max_frame)
    except frontd_worker.ProtocolError as error:
        return error.kind, None, 0
    return ("frame", frame, frame.size) if frame else ("more", None, 0)


READERS = [by_tests, by_library]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("record", FRAMES, ids=name_of)
def test_frame(record, reader):
    data = bytes.fromhex(record["hex"])
    result, frame, size = reader(data, int(record["max_frame"]))
    assert result == record["result"]
    if result != "frame":
        return
    assert size == 32 + int(record["length"])
    for key in ("type", "flags", "call", "conn"):
        assert getattr(frame, key) == int(record[key], 0)
    for key in ("meta", "body", "blob"):
        assert getattr(frame, key) == bytes.fromhex(record[key])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("record", FRAMES, ids=name_of)
def test_every_beginning_of_it(record, reader):
    """Cut anywhere, the result is `more`, or is already known from the header."""
    data, max_frame = bytes.fromhex(record["hex"]), int(record["max_frame"])
    enough = 32 if record["result"] != "frame" else 32 + int(record["length"])
    for n in range(len(data) + 1):
        expected = record["result"] if n >= enough else "more"
        assert reader(data[:n], max_frame)[0] == expected, n


@pytest.mark.parametrize("record", [r for r in FRAMES if r["result"] == "frame"], ids=name_of)
def test_written_as_it_was_read(record):
    data = bytearray.fromhex(record["hex"])[:32 + int(record["length"])]
    data[6:8] = b"\0\0"  # reserved is 0 when sent
    frame = fakefront.decode(data)[0]
    assert fakefront.encode(*frame) == data
    assert frontd_worker.encode_frame(frontd_worker.Frame(*frame)) == data


def test_the_examples_are_complete():
    good = [record for record in FRAMES if record["result"] == "frame"]
    assert {int(r["type"]) for r in good} >= set(range(1, 15)) | {128, 255}
    assert {r["result"] for r in FRAMES} == {"frame", "more", "parts", "type", "limit"}
    assert {int(r["flags"], 0) for r in good} >= {0, 1, 2, 4, 8}


def test_the_format_is_as_described():
    for file in ("frames.txt", "hello.txt"):
        with open(os.path.join(VECTORS, file), "rb") as stream:
            assert all(len(line) <= 1000 for line in stream.read().split(b"\n"))
    for records in (FRAMES, HELLOS):
        names = [name_of(record) for record in records]
        assert len(set(names)) == len(names)
    for record in FRAMES:
        fields = FIELDS if record["result"] == "frame" else ()
        assert tuple(record) == ("name", "result", "max_frame", *fields, "hex")
        assert re.fullmatch("[0-9a-f]{0,4096}", record["hex"])


def hello_body(record):
    values = dict(record)
    return bytes.fromhex(values["hex"]) if "hex" in values else values["text"].encode()


def all_of(record, key):
    return [value for name, value in record if name == key]


def from_worker(record):
    return dict(record)["from"] == "worker"


@pytest.mark.parametrize("record", [r for r in HELLOS if from_worker(r)], ids=name_of)
def test_hello_of_a_worker(record):
    values = dict(record)
    try:
        hello = read_worker_hello(hello_body(record))
    except Refused as error:
        assert str(error) == values["result"]
        return
    assert values["result"] == "ok"
    for key, said in (("protocol", "protocol"), ("name", "name_is"), ("pid", "pid"),
                      ("concurrency", "concurrency"), ("max_frame", "max_frame")):
        assert str(hello.get(key, "absent")) == values.get(said, "absent"), key
    for key, each in (("methods", "method"), ("features", "feature")):
        count = str(len(hello[key])) if key in hello else "-"
        assert values[key] == count and all_of(record, each) == hello.get(key, [])


@pytest.mark.parametrize("record", [r for r in HELLOS if not from_worker(r)], ids=name_of)
def test_hello_of_a_front(record):
    values = dict(record)
    try:
        hello = frontd_worker.read_front_hello(hello_body(record))
    except frontd_worker.ProtocolError as error:
        assert {"protocol": "bad"}.get(error.kind, error.kind) == values["result"]
        return
    assert values["result"] == "ok"
    assert [str(version) for version in hello["protocol"]] == all_of(record, "version")
    for key in ("front", "instance", "generation", "shard", "shards", "pool", "max_frame"):
        assert str(hello.get(key, "absent")) == values.get(key, "absent"), key
