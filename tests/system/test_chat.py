"""The chat of the demo workers through frontd: by hand, and with docs/chat.html in a browser."""

import os
import signal

import pytest

import chromium
from harness import http_route, rpc_route, wait_for, ws_route
from workerproc import ROOT

WORKERS = ["workerd", "python"]


@pytest.fixture(params=WORKERS)
def chat(request, site):
    """A site with two shards, a chat, and two workers of one kind."""
    made = site(shards=2, routes=[rpc_route(), ws_route(), ws_route("/raw", messages="raw"), http_route()])
    start = made.workerd if request.param == "workerd" else made.python_worker
    for name in ("app-1", "app-2"):
        start(name)
    return made.start()


def said(room, name, text):
    return {"jsonrpc": "2.0", "method": "chat", "params": {"room": room, "name": name, "text": text}}


def ask(client, method, **params):
    """A call whose answer comes after what it causes: the messages before it."""
    client.ask(method, params)
    before = []
    while True:
        message = client.read_json()
        if "id" in message:
            assert message["result"] is True
            return before
        before.append(message)


def hears(client, message):
    """Wait for a message; one of before, from the other shard, may come first."""
    while client.read_json() != message:
        pass


def on_both_shards(chat, count=2):
    """Clients, `count` on each shard."""
    found = {pid: [] for pid in chat.shards()}
    spare = []
    while any(len(clients) < count for clients in found.values()):
        client = chat.ws()
        here = found[chat.shard_of(client)]
        (here if len(here) < count else spare).append(client)
        assert len(spare) < 200
    for client in spare:
        client.close()
    return [client for clients in found.values() for client in clients]


def test_who_has_joined_hears_who_says_something(chat):
    clients = on_both_shards(chat)
    outside = chat.ws()
    for n, client in enumerate(clients):
        joined = said("a", f"n{n}", f"n{n} joined")
        assert joined in ask(client, "demo.join", room="a", name=f"n{n}")
        for other in clients[:n]:
            hears(other, joined)
    text = "\u00fc\U0001f600"
    assert said("a", "n0", text) in ask(clients[0], "demo.say", room="a", name="n0", text=text)
    for client in clients[1:]:
        hears(client, said("a", "n0", text))
    assert ask(clients[3], "demo.leave", room="a", name="n3") == []
    for client in clients[1:3]:
        hears(client, said("a", "n3", "n3 left"))
    assert chat.rpc("demo.say", {"room": "a", "name": "curl", "text": "hi"}).json()["result"] is True
    for client in clients[1:3]:
        hears(client, said("a", "curl", "hi"))
    for client in (clients[3], outside):
        assert ask(client, "demo.say", room="other", name="n", text="t") == []


def test_plain_http_cannot_join(chat):
    assert chat.rpc("demo.join", {"room": "a", "name": "n"}).json()["error"]["code"] == -32602


def test_raw_messages_come_back(chat):
    client = chat.ws("/raw")
    client.send_text("\u00fc not JSON".encode())
    assert client.read_message() == (1, "\u00fc not JSON".encode())
    client.send_binary(bytes(range(256)))
    assert client.read_message() == (2, bytes(range(256)))


# The page

@pytest.fixture
def browser(tmp_path):
    if chromium.PROGRAM is None:
        pytest.skip("needs chromium")
    with chromium.Chromium(tmp_path) as browser:
        yield browser


def lines(page):
    return page.evaluate("[...document.querySelectorAll('#log li')].map((line) => line.textContent)")


def join(page, room, name):
    page.until("document.getElementById('state').textContent === 'Connected.'")
    page.fill("room", room)
    page.fill("name", name)
    page.click("join")


def say(page, text):
    page.fill("text", text)
    page.click("say")


def has(page, line):
    wait_for(lambda: line in lines(page), f"the line {line!r}", chromium.WAIT)


def test_two_windows_talk(chat, browser):
    url = "http://127.0.0.1:%d/" % chat.port
    ada, bob, eve = (browser.open(url) for _ in range(3))
    join(ada, "lobby", "Ada")
    has(ada, "Ada: Ada joined")
    join(bob, "lobby", "Bob")
    join(eve, "elsewhere", "Eve")
    has(ada, "Bob: Bob joined")
    markup = "<b onclick='x()'>\u00fc</b> & \"quotes\" \U0001f600"
    say(bob, markup)
    for page in (ada, bob):
        has(page, "Bob: " + markup)
    bob.until("document.getElementById('text').value === ''")
    has(eve, "Eve: Eve joined")
    assert lines(eve) == ["Eve: Eve joined"]
    join(bob, "elsewhere", "Bob")
    has(ada, "Bob: Bob left")
    has(eve, "Bob: Bob joined")
    for page in (ada, bob, eve):
        assert page.problems() == []


def test_it_connects_again_and_is_in_its_room_again(chat, browser):
    page = browser.open("http://127.0.0.1:%d/" % chat.port)
    say(page, "too early")
    has(page, "Join a room first.")
    join(page, "lobby", "Ada")
    has(page, "Ada: Ada joined")
    for pid in chat.shards():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: lines(page).count("Ada: Ada joined") == 2, "Ada again", chromium.WAIT)
    say(page, "back")
    has(page, "Ada: back")


def test_an_error_is_shown(chat, browser):
    page = browser.open("http://127.0.0.1:%d/" % chat.port)
    page.until("document.getElementById('state').textContent === 'Connected.'")
    page.evaluate("call('demo.nothing').catch((error) => { document.title = error.message; })")
    page.until("document.title === 'method not found'")


def test_the_page_needs_nothing_from_elsewhere():
    with open(os.path.join(ROOT, "docs", "chat.html"), encoding="utf-8") as file:
        page = file.read()
    for foreign in ("http:", "https:", "src=", "@import", "url("):
        assert foreign not in page.replace('"https:"', "")
