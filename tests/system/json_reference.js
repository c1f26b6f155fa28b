// What JSON.parse makes of texts, in the words of tests/fuzz/json_judge.c, with every number as the
// bits of its double. Same input: a length of 4 bytes, big-endian, and a text, until the end.
'use strict';

const DEPTH_MAX = 128;
const BATCH_MAX = 64;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function depth(value) {
  if (typeof value !== 'object' || value === null) return 0;
  let most = 0;
  for (const key of Object.keys(value)) most = Math.max(most, depth(value[key]));
  return most + 1;
}

function canonical(value) {
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value);
    return { '#': bytes.toString('hex') };
  }
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.create(null);     // so that "__proto__" is a key like others
  for (const key of Object.keys(value)) copy[key] = canonical(value[key]);
  return copy;
}

const isObject = (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isId = (value) => value === null || typeof value === 'string' || typeof value === 'number';
const member = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);

function request(value) {
  if (!isObject(value)) return ['invalid', '', null, null];
  const method = member(value, 'method');
  const id = member(value, 'id');
  const params = member(value, 'params');
  const usableId = id !== undefined && isId(id);
  const usableParams = typeof params === 'object' && params !== null;
  const valid = member(value, 'jsonrpc') === '2.0' && typeof method === 'string' &&
    (id === undefined || usableId) && (params === undefined || usableParams);
  return [
    valid ? (id === undefined ? 'notify' : 'call') : 'invalid',
    typeof method === 'string' ? method : '',
    usableId ? [canonical(id)] : null,
    usableParams ? [canonical(params)] : null,
  ];
}

function isResponse(value) {
  if (!isObject(value) || member(value, 'jsonrpc') !== '2.0') return false;
  const id = member(value, 'id');
  if (id === undefined || !isId(id)) return false;
  const error = member(value, 'error');
  if ((member(value, 'result') === undefined) === (error === undefined)) return false;
  if (error === undefined) return true;
  return isObject(error) && Number.isInteger(member(error, 'code')) &&
    typeof member(error, 'message') === 'string';
}

function judge(bytes) {
  let value;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    return ['parse', false];
  }
  if (depth(value) > DEPTH_MAX) return ['parse', false];
  if (Array.isArray(value)) {
    if (value.length === 0) return ['invalid', false];
    if (value.length > BATCH_MAX) return ['batch', false];
    return [{ batch: true, members: value.map(request) }, false];
  }
  const found = request(value);
  if (found[0] !== 'invalid') return [{ batch: false, members: [found] }, isResponse(value)];
  return [found[2] === null ? 'invalid' : ['invalid', found[2][0]], isResponse(value)];
}

const input = require('fs').readFileSync(0);
const lines = [];
for (let at = 0; at < input.length;) {
  const n = input.readUInt32BE(at);
  lines.push(JSON.stringify(judge(input.subarray(at + 4, at + 4 + n))));
  at += 4 + n;
}
process.stdout.write(lines.join('\n') + '\n');
