// proto/vectors: what a receiver makes of given bytes. vectors/README.md says how to read them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ProtocolError, encodeFrame, readFrame, readFrontHello } from "../lib/frames.js";
import { Protocol } from "../lib/protocol.js";

/** The records of a file: lists of [key, value]. */
function records(name) {
  const text = readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8");
  const found = [[]];
  for (const line of text.split("\n")) {
    const [, key, value] = /^(\w+):(?: (.*))?$/.exec(line) ?? [];
    if (line === "") found.push([]);
    else if (line.startsWith("  ")) found.at(-1).at(-1)[1] += line.slice(2);
    else if (!line.startsWith("#")) found.at(-1).push([key, value ?? ""]);
  }
  return found.filter((record) => record.length > 0);
}

function kindOf(action) {
  try {
    return action() === null ? "more" : "frame";
  } catch (error) {
    assert(error instanceof ProtocolError);
    return error.kind;
  }
}

const FRAMES = records("frames.txt").map(Object.fromEntries);
assert(FRAMES.length > 20);

for (const record of FRAMES) {
  test(`frame ${record.name}`, () => {
    const data = Buffer.from(record.hex, "hex"), limit = Number(record.max_frame);
    const shifted = Buffer.concat([Buffer.from("xyz"), data]);
    assert.equal(kindOf(() => readFrame(shifted, 3, limit)), record.result);
    if (record.result !== "frame") return;
    const frame = readFrame(shifted, 3, limit);
    assert.equal(frame.size, 32 + Number(record.length));
    for (const name of ["type", "call", "conn"]) assert.equal(String(frame[name]), record[name]);
    assert.equal(frame.flags, Number(record.flags));
    for (const name of ["meta", "body", "blob"]) assert.equal(frame[name].toString("hex"), record[name]);
    const sent = Buffer.from(data.subarray(0, frame.size));
    sent.writeUInt16BE(0, 6); // reserved
    assert.deepEqual(encodeFrame(frame), sent);
  });

  test(`frame ${record.name}, byte by byte`, () => {
    const data = Buffer.from(record.hex, "hex"), limit = Number(record.max_frame);
    for (let n = 0; n < Math.min(data.length, 32); n++) {
      assert.equal(readFrame(data.subarray(0, n), 0, limit), null);
    }
  });
}

const HELLOS = records("hello.txt").filter((record) => record.some(([key, value]) => key === "from" && value === "front"));
assert(HELLOS.length > 5);

for (const record of HELLOS) {
  const { name, result, text, hex, max_frame: limit, ...more } = Object.fromEntries(record);
  test(`hello ${name}`, () => {
    const body = hex === undefined ? Buffer.from(text) : Buffer.from(hex, "hex");
    const hello = encodeFrame({ type: 1, body });
    const protocol = new Protocol(0);
    protocol.receive(hello, 0);
    if (result !== "ok") {
      const kind = result === "bad" ? "protocol" : result;
      assert.throws(() => readFrontHello(body), { name: "ProtocolError", kind });
      assert.throws(() => protocol.nextEvent(), { name: "ProtocolError", kind });
      return;
    }
    assert.deepEqual(protocol.nextEvent(), { kind: "hello" });
    const read = readFrontHello(body);
    assert.equal(read.max_frame, Number(limit));
    const versions = record.filter(([key]) => key === "version").map(([, value]) => Number(value));
    assert.deepEqual(read.protocol, versions);
    for (const key of ["front", "instance", "generation", "shard", "shards", "pool"]) {
      if (key in more) assert.equal(String(read[key]), more[key]);
    }
  });
}
