"""Writes the dashboard as C: embed.py PAGE >dashboard.c

The page and its Content-Security-Policy, which lets run what stands in the page and nothing else: the hashes are of its
<style> and its <script>.
"""

import base64
import hashlib
import re
import sys


def source(page, tag):
    """'sha256-…' of the only element of that name."""
    text, = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def main(path):
    with open(path, encoding="utf-8") as file:
        page = file.read()
    policy = ("default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
              f"frame-ancestors 'none'; style-src {source(page, 'style')}; script-src {source(page, 'script')}")
    fields = ["Content-Security-Policy: " + policy, "X-Content-Type-Options: nosniff", "X-Frame-Options: DENY",
              "Referrer-Policy: no-referrer", "Cross-Origin-Opener-Policy: same-origin",
              "Cross-Origin-Resource-Policy: same-origin", "Cache-Control: no-cache"]
    data = page.encode()
    print('#include "frontd/admin/dashboard.h"\n\nstatic const char page[] = {')
    for at in range(0, len(data), 20):
        print("    " + " ".join(f"{byte - 256 if byte > 127 else byte}," for byte in data[at:at + 20]))
    print("};\n\nconst struct span dashboard_page = {page, sizeof(page)};")
    print("\nstatic const char fields[] =")
    for field in fields:
        print(f'    "{field}\\r\\n"')
    print("    ;\n\nconst struct span dashboard_fields = {fields, sizeof(fields) - 1};")


main(*sys.argv[1:])
