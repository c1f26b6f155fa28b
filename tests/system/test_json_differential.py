"""The JSON-RPC scanner against other parsers: the same verdict, and the same parts, on mutated texts.

The judge (tests/fuzz/json_judge.c) copies the parts that it found out of the text; they are compared
as values. Node's JSON.parse is the reference; Python's json, made strict, is another, and the only
one where there is no Node.
"""
import copy
import json
import os
import random
import re
import shutil
import struct
import subprocess
import warnings

import pytest

from harness import BUILD

JUDGE = os.path.join(BUILD, "tests", "fuzz", "json_judge")
REFERENCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "json_reference.js")
CORPUS = os.path.join(os.path.dirname(os.path.dirname(REFERENCE)), "fuzz", "corpus", "jsonrpc")
TEXTS = 20000
DEPTH_MAX = 128
BATCH_MAX = 64
TIMEOUT = 120           # seconds for one program to judge all texts

# ---- the texts

WHITE = ["", "", "", "", " ", "\n", "\t", "\r\n", "  "]
STRINGS = ['""', '"a"', '"m"', '"2.0"', '"echo.x"', '"\\u0061\\n"', '"\\ud83d\\ude00"', '"\\ud800"',
           '"\\udc00x"', '"\\/\\\\\\""', '"é€😀"', '"0123456789abcdef"', '"0123456789abcde\\u0066g"',
           '"a string that is longer than two blocks, é, to its end"']
NUMBERS = ["0", "-0", "1", "7", "-12", "1.5", "1e5", "2E-3", "0.1e+1", "12345678901234567890",
           "1e999", "-32600"]
LITERALS = ["true", "false", "null"]
KEYS = ['"jsonrpc"', '"method"', '"id"', '"params"', '"result"', '"error"', '"code"', '"message"']
ODD_KEYS = ['"j\\u0073onrpc"', '"\\u006dethod"', '"i\\u0064"', '"param\\u0073"', '"ID"', '""', '"Method"',
            '"id\\u0000"', '"paramſ"', '"\\u0131d"', '"JsonRPC"', '"\\u0050arams"', '"RESULT"', '"Error"',
            '"\\u0000id"', '"m\\u00e9thod"', '"__proto__"', '"constructor"', '"methods"', '"\\ud800"', '"é"']
TOKENS = ([t.encode() for t in STRINGS + NUMBERS + LITERALS + KEYS + ODD_KEYS] + [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud83d", b"\\x", b" ", b"\n", b"\t",
    b"\0", b"\x1f", b"\x7f", b"\x0b", b"\x0c", b"\xc2\xa0", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x80",
    b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf",
    b"\xed\xa0\x80", b"\xee\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\xfe", b"\xe9", b"0", b"00", b"01", b"-",
    b"+", b".", b"e", b"E+", b".5", b"2.e3", b"NaN", b"-Infinity", b"undefined", b"'", b"/*", b"*/",
    b"//", b"#", b"nul", b"True"])


def value(rng, depth=0):
    kind = rng.random()
    if depth > 4 or kind < 0.35:
        return rng.choice(STRINGS)
    if kind < 0.6:
        return rng.choice(NUMBERS)
    if kind < 0.7:
        return rng.choice(LITERALS)
    if kind < 0.85:
        return array([value(rng, depth + 1) for _ in range(rng.randrange(4))], rng)
    return obj([(rng.choice(KEYS + ODD_KEYS), value(rng, depth + 1))
                for _ in range(rng.randrange(4))], rng)


def array(values, rng):
    return "[%s]" % ",".join(rng.choice(WHITE) + v + rng.choice(WHITE) for v in values)


def obj(members, rng):
    return "{%s}" % ",".join("".join((rng.choice(WHITE), k, rng.choice(WHITE), ":", rng.choice(WHITE),
                                      v, rng.choice(WHITE))) for k, v in members)


def request(rng):
    members = [('"jsonrpc"', '"2.0"'), ('"method"', rng.choice(STRINGS))]
    if rng.random() < 0.7:
        members.append(('"id"', rng.choice(STRINGS + NUMBERS + ["null"])))
    if rng.random() < 0.7:
        members.append(('"params"', array([value(rng)], rng) if rng.random() < 0.5 else
                        obj([(rng.choice(KEYS), value(rng))], rng)))
    return disturb(members, rng)


def response(rng):
    members = [('"jsonrpc"', '"2.0"'), ('"id"', rng.choice(STRINGS + NUMBERS + ["null"]))]
    if rng.random() < 0.5:
        members.append(('"result"', value(rng)))
    else:
        members.append(('"error"', disturb([('"code"', rng.choice(NUMBERS)),
                                            ('"message"', rng.choice(STRINGS))], rng)))
    return disturb(members, rng)


def disturb(members, rng):
    """The members as an object: in another order, and at times with one that is wrong or twice."""
    rng.shuffle(members)
    while rng.random() < 0.4:
        at = rng.randrange(len(members) + 1)
        what = rng.random()
        if what < 0.6:
            members.insert(at, (rng.choice(KEYS + ODD_KEYS), value(rng, 3)))
        elif what < 0.8 and at < len(members):
            del members[at]
        elif at < len(members):     # the same key in another spelling
            key = members[at][0]
            if "\\" not in key and len(key) > 2:
                i = rng.randrange(1, len(key) - 1)
                members[at] = (key[:i] + "\\u%04x" % ord(key[i]) + key[i + 1:], members[at][1])
    return obj(members, rng)


def whole(rng):
    kind = rng.random()
    if kind < 0.5:
        text = request(rng)
    elif kind < 0.7:
        text = response(rng)
    elif kind < 0.9:
        text = array([request(rng) if rng.random() < 0.8 else value(rng)
                      for _ in range(rng.randrange(5))], rng)
    elif kind < 0.92:
        text = array(["{}"] * rng.choice((BATCH_MAX - 1, BATCH_MAX, BATCH_MAX + 1)), rng)
    elif kind < 0.94:
        n = rng.choice((1, 2, 63, 64, 65, DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, 3 * DEPTH_MAX))
        first, last = rng.choice((("[", "]"), ('{"a":', "}"), ("[0,", "]")))
        text = first * n + value(rng, 9) + last * n
    else:
        text = value(rng)
    return (rng.choice(WHITE) + text + rng.choice(WHITE)).encode()


def mutate(text, other, rng):
    text = bytearray(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(text) + 1)
        to = min(len(text), at + rng.choice((1, 1, 1, 2, 4, 16)))
        what = rng.randrange(7)
        if what == 0:
            text[at:to] = b""
        elif what == 1:
            text[at:at] = rng.choice(TOKENS)
        elif what == 2:
            text[at:to] = rng.choice(TOKENS)
        elif what == 3:
            text[at:at] = bytes([rng.randrange(256)])
        elif what == 4 and at < len(text):
            text[at] ^= 1 << rng.randrange(8)
        elif what == 5:
            text[at:at] = text[at:to]
        elif rng.random() < 0.5:
            del text[at:]
        else:
            text[at:to] = other[rng.randrange(len(other) + 1):][:16]
    return bytes(text)


def texts():
    rng = random.Random(20)     # the same texts in each run
    made = []
    for name in sorted(os.listdir(CORPUS)):
        with open(os.path.join(CORPUS, name), "rb") as f:
            made.append(f.read())
    seeds = len(made)
    while len(made) < TEXTS:
        kind = rng.random()
        if kind < 0.4:
            made.append(whole(rng))
        elif kind < 0.8:
            made.append(mutate(whole(rng), rng.choice(made), rng))
        else:
            made.append(mutate(made[rng.randrange(seeds)], rng.choice(made), rng))
    return made


# ---- what is said of them

def canonical(v):
    """Every number as the bits of its double: -0 is not 0, and 1e999 is infinite."""
    if isinstance(v, float):
        return {"#": struct.pack(">d", v).hex()}
    if isinstance(v, list):
        return [canonical(x) for x in v]
    if isinstance(v, dict):
        return {k: canonical(x) for k, x in v.items()}
    return v


def no_constant(name):
    raise ValueError("%s is not JSON" % name)


def strict(text):
    """RFC 8259. All numbers are doubles, as in JavaScript."""
    return json.loads(text.decode("utf-8"), parse_int=float, parse_constant=no_constant,
                      object_pairs_hook=Object)


class Object(dict):
    """An object that knows all keys that stood there, those that did twice too."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.written = [key for key, _ in pairs]

    def alike(self, name):
        """The keys that a parser may take for that name: case may not count, and NUL may be an end."""
        return [k for k in self.written
                if k.split("\0")[0].upper().replace("\u0130", "I") == name.upper()]

    def doubtful(self, name):
        """Whether two parsers could read two things."""
        return self.alike(name) not in ([], [name])


def depth(v):
    if isinstance(v, (list, dict)):
        return 1 + max(map(depth, v.values() if isinstance(v, dict) else v), default=0)
    return 0


MISSING = object()


def is_id(v):
    return v is None or isinstance(v, (str, float))


def python_request(v):
    if not isinstance(v, dict):
        return ["invalid", "", None, None]
    method, id_, params = (v.get(k, MISSING) for k in ("method", "id", "params"))
    usable_params = isinstance(params, (list, dict))
    valid = (v.get("jsonrpc") == "2.0" and isinstance(method, str) and
             (id_ is MISSING or is_id(id_)) and (params is MISSING or usable_params) and
             not any(map(v.doubtful, ("jsonrpc", "method", "id", "params"))))
    kind = "invalid" if not valid else "notify" if id_ is MISSING else "call"
    no_method = not v.alike("method") or (method is None and not v.doubtful("method"))
    if no_method and (v.alike("result") or v.alike("error")):
        kind = "response" if python_response(v) else "bad response"
    return [kind, method if isinstance(method, str) else "",
            [canonical(id_)] if is_id(id_) and not v.doubtful("id") else None,
            [canonical(params)] if usable_params else None]


def python_response(v):
    if not isinstance(v, dict) or v.get("jsonrpc") != "2.0" or not is_id(v.get("id", MISSING)):
        return False
    if ("result" in v) == ("error" in v) or any(map(v.doubtful, ("jsonrpc", "id", "result", "error"))):
        return False
    error = v.get("error", MISSING)
    if error is MISSING:
        return True
    return (isinstance(error, dict) and isinstance(error.get("code"), float) and
            error["code"].is_integer() and isinstance(error.get("message"), str))


def python_judge(text):
    try:
        v = strict(text)
    except ValueError:
        return ["parse", False]
    if depth(v) > DEPTH_MAX:
        return ["parse", False]
    if isinstance(v, list):
        if not v:
            return ["invalid", False]
        if len(v) > BATCH_MAX:
            return ["batch", False]
        return [{"batch": True, "members": [python_request(x) for x in v]}, False]
    found = python_request(v)
    if found[0] != "invalid":
        return [{"batch": False, "members": [found]}, python_response(v)]
    return ["invalid" if found[2] is None else ["invalid", found[2][0]], python_response(v)]


def run(program, made):
    data = b"".join(struct.pack(">I", len(text)) + text for text in made)
    done = subprocess.run(program, input=data, stdout=subprocess.PIPE, timeout=TIMEOUT, check=True)
    lines = done.stdout.split(b"\n")
    assert lines.pop() == b"" and len(lines) == len(made)
    return lines


def ours(made):
    assert os.path.exists(JUDGE), "%s does not exist: build first" % JUDGE
    said = []
    for line in run([JUDGE], made):
        verdict, is_response = line.split(b"\t")
        found = strict(verdict)
        if isinstance(found, dict):
            for member in found["members"]:
                member[2:] = canonical(member[2:])
        elif isinstance(found, list):
            found[1] = canonical(found[1])
        said.append([found, is_response == b"true"])
    return said


def node(made):
    return [json.loads(line) for line in run(["node", REFERENCE], made)]


def python(made):
    return [python_judge(text) for text in made]


def references():
    if shutil.which("node"):
        return [node, python]
    warnings.warn("there is no node: the scanner is compared with Python's json only")
    return [python]


def kind_of(verdict):
    if isinstance(verdict, str):
        return verdict
    if isinstance(verdict, list):
        return verdict[0]
    return "batch of requests" if verdict["batch"] else verdict["members"][0][0]


@pytest.fixture(scope="module")
def judged():
    made = texts()
    return made, ours(made)


def has_odd_code(text):
    """An error code as 1.0 or 1e3 is an integer to the references, which see only its value."""
    return re.search(rb'"error"|\\u', text) and re.search(rb"\d[.eE]", text)


def without_odd_codes(verdict, text):
    """A verdict in which a response with such a code is one that is not valid."""
    if isinstance(verdict, dict) and has_odd_code(text):
        for member in verdict["members"]:
            member[0] = member[0].replace("bad response", "response")
    return verdict


@pytest.mark.parametrize("reference", references(), ids=lambda f: f.__name__)
def test_same_verdict(judged, reference):
    made, said = judged
    for text, (verdict, is_response), (expected, expected_response) in zip(
            made, copy.deepcopy(said), reference(made)):
        if verdict != expected:
            assert without_odd_codes(verdict, text) == without_odd_codes(expected, text), text
        if expected_response and not is_response:
            assert has_odd_code(text), text
        else:
            assert is_response == expected_response, text


def test_texts_are_worth_comparing(judged):
    """Neither all refused nor all accepted: each verdict is there often enough to mean something."""
    counts = {}
    for verdict, is_response in judged[1]:
        kind = kind_of(verdict)
        counts[kind] = counts.get(kind, 0) + 1
        counts["response"] = counts.get("response", 0) + is_response
    for kind, least in (("parse", 5000), ("invalid", 1000), ("call", 1000), ("notify", 400),
                        ("batch of requests", 1000), ("batch", 30), ("response", 400),
                        ("bad response", 200)):
        assert counts.get(kind, 0) >= least, counts
