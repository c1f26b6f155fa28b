"""The n-th allocation fails, for each n from the start on: frontd ends with a message, or serves."""
import os

from harness import wait_for
from httpclient import BadResponse, Client, Closed

BEYOND = 25     # so many allocations after the start are tried: channels, HELLO, the first calls


def starts(web, n):
    """Whether frontd starts though its n-th allocation fails, in each of its processes."""
    os.environ["FRONTD_FAIL_ALLOC"] = str(n)
    try:
        web.start(ready=False)
    finally:
        del os.environ["FRONTD_FAIL_ALLOC"]
    wait_for(lambda: any(word in web.front.text() for word in ("ready:", "cannot start"))
             or not web.front.running(), "the start or a message")
    return "ready:" in web.front.text()


def served(web):
    try:
        with Client(web.address, timeout=2) as client:
            return client.rpc("demo.echo", [1]).status == 200
    except (OSError, Closed, BadResponse):
        return False


def test_every_allocation_from_the_start_on(site):
    n = left = 0
    while left < BEYOND:
        web = site()
        web.fake(hello={"methods": ["*"]})
        if starts(web, n):
            left += 1
            wait_for(lambda: served(web), "an answer where allocation %d failed" % n)
            web.fake("app-2")
            web.workers[0].drop()
            wait_for(lambda: served(web), "an answer of another worker")
            web.stop()
        else:
            assert web.front.text().strip(), "no message where allocation %d failed" % n
            web.front.check_log()
            web.front.kill()
            web.front = None
            web.stop()
        n += 1
        assert n < 1000
