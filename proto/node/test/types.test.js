// lib/index.d.ts has what lib/index.js has.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as library from "../lib/index.js";

const TEXT = readFileSync(new URL("../lib/index.d.ts", import.meta.url), "utf8");

test("everything that is exported is described", () => {
  const described = [...TEXT.matchAll(/^export (?:const|class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(described.sort(), Object.keys(library).sort());
});

for (const name of ["Worker", "Connection", "Context", "HttpRequest"]) {
  test(`so is each method of ${name}`, () => {
    const [, body] = new RegExp(`^export class ${name} \\{\\n(.*?)^\\}`, "ms").exec(TEXT);
    const described = new Set([...body.matchAll(/^  (?:readonly )?(\w+)[(:]/gm)].map(([, found]) => found));
    for (const own of Object.getOwnPropertyNames(library[name].prototype)) {
      if (own !== "constructor" && !own.startsWith("_")) assert(described.has(own), own);
    }
  });
}
