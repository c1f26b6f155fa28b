"""The dashboard of the admin address, in a browser."""
import re

import pytest

from chromium import PROGRAM, Chromium
from harness import free_port
from test_admin import ask

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")

TEXT = "document.getElementById(%r).textContent"
EVIL = "<img src=x onerror=\"document.title='taken over'\">"


def test_the_page(site, tmp_path):
    """It asks for the token, shows what happens here, and runs nothing but what stands in it."""
    token = tmp_path / "token"
    token.write_text("a-token.of-this-test\n")
    token.chmod(0o600)
    port = free_port()
    web = site(pools={"app": {}}, admin={"address": str(port), "token_file": str(token)})
    web.fake()
    web.start()
    url = "http://127.0.0.1:%d/" % port
    status, fields, _ = ask(("127.0.0.1", port), "/")
    policy = fields["content-security-policy"]
    assert status == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    with Chromium(tmp_path) as browser:
        page = browser.open(url)
        page.until("!document.getElementById('door').hidden")
        page.fill("token", "another one")
        page.evaluate("document.querySelector('#door button').click()")
        page.until("!document.getElementById('wrong').hidden")
        page.fill("token", "a-token.of-this-test")
        page.evaluate("document.querySelector('#door button').click()")
        page.until("!document.getElementById('board').hidden")
        page.until(TEXT % "state" + " === 'serving'")
        assert page.evaluate("sessionStorage.getItem('frontd.token')") == "a-token.of-this-test"
        for method in ("seen.here", EVIL):
            for _ in range(20):
                web.rpc(method)
        for name in ("tiles", "pools", "shards", "listeners"):
            page.until(TEXT % name + ".length > 0")
        page.until(TEXT % "shards" + ".includes('serving')")
        page.until(TEXT % "pools" + ".includes('app')")
        page.until(TEXT % "methods" + ".includes('seen.here')")
        page.until(TEXT % "methods" + ".includes('<img src=x')")
        assert page.evaluate("document.images.length") == 0
        assert re.match(r".*frontd", page.evaluate("document.title"))
        # Another script, and another server, are refused by the page's own policy.
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.run = 1'}))")
        assert page.evaluate("window.run") is None
        assert page.evaluate("fetch('http://127.0.0.1:1/').then(() => 'sent', () => 'refused')") == "refused"
        refused = page.problems()
        assert any("script-src" in text for text in refused) and any("connect-src" in text for text in refused)
        unwanted = [text for text in refused if "Content Security Policy" not in text and "401" not in text]
        assert not unwanted, unwanted
        # Usable on a phone: nothing is wider than the screen.
        page.command("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
        page.until("innerWidth === 360 && document.documentElement.scrollWidth <= 360")
        web.front.stop()
        page.until(TEXT % "state" + " === 'cannot be reached'")
    web.front = None
