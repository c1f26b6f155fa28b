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

// The keys of each object that is the text itself or a member of its batch, in the order in which they
// stand there, those that are there twice too: JSON.parse() has lost them. The text is valid JSON.
function keysOf(text) {
  const string = /"(?:[^"\\]|\\.)*"/y;
  const colon = /[ \n\r\t]*:/y;
  const outer = text.trimStart()[0] === '[' ? 1 : 0;
  const found = [];
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === '{' || c === '[') {
      if (depth++ === outer) found.push([]);
    } else if (c === '}' || c === ']') {
      depth--;
    } else if (c === '"') {
      string.lastIndex = at;
      const [written] = string.exec(text);
      at += written.length - 1;
      colon.lastIndex = at + 1;
      if (depth === outer) found.push([]);
      else if (depth === outer + 1 && colon.test(text)) found[found.length - 1].push(JSON.parse(written));
    } else if (depth === outer && /[-0-9tfn]/.test(c) && !/[-+.0-9a-zA-Z]/.test(text[at - 1] ?? '')) {
      found.push([]);
    }
  }
  return found;
}

// As a parser reads a name that takes no notice of case, or lets it end at a NUL.
const loose = (key) => key.split('\0')[0].toUpperCase().replaceAll('\u0130', 'I');

// Which of these names two parsers could read in two ways.
const doubtful = (keys, names) => names.filter((name) => {
  const alike = keys.filter((key) => loose(key) === loose(name));
  return alike.length > 1 || alike.some((key) => key !== name);
});

function request(value, keys) {
  if (!isObject(value)) return ['invalid', '', null, null];
  const has = (name) => keys.some((key) => loose(key) === loose(name));
  const doubts = doubtful(keys, ['jsonrpc', 'method', 'id', 'params']);
  const method = member(value, 'method');
  const id = member(value, 'id');
  const params = member(value, 'params');
  const usableId = id !== undefined && isId(id) && !doubts.includes('id');
  const usableParams = typeof params === 'object' && params !== null;
  const valid = member(value, 'jsonrpc') === '2.0' && typeof method === 'string' &&
    (id === undefined || usableId) && (params === undefined || usableParams) && doubts.length === 0;
  let kind = valid ? (id === undefined ? 'notify' : 'call') : 'invalid';
  const nulled = method === null && !doubts.includes('method'); // as some write what is not there
  if ((!has('method') || nulled) && (has('result') || has('error'))) {
    kind = isResponse(value, keys) ? 'response' : 'bad response';
  }
  return [
    kind,
    typeof method === 'string' ? method : '',
    usableId ? [canonical(id)] : null,
    usableParams ? [canonical(params)] : null,
  ];
}

function isResponse(value, keys) {
  if (!isObject(value) || member(value, 'jsonrpc') !== '2.0') return false;
  if (doubtful(keys, ['jsonrpc', 'id', 'result', 'error']).length > 0) return false;
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
  let text;
  try {
    text = decoder.decode(bytes);
    value = JSON.parse(text);
  } catch {
    return ['parse', false];
  }
  if (depth(value) > DEPTH_MAX) return ['parse', false];
  if (Array.isArray(value)) {
    if (value.length === 0) return ['invalid', false];
    if (value.length > BATCH_MAX) return ['batch', false];
    const keys = keysOf(text);
    return [{ batch: true, members: value.map((v, i) => request(v, keys[i])) }, false];
  }
  const keys = isObject(value) ? keysOf(text)[0] : [];
  const found = request(value, keys);
  const answers = isResponse(value, keys);
  if (found[0] !== 'invalid') return [{ batch: false, members: [found] }, answers];
  return [found[2] === null ? 'invalid' : ['invalid', found[2][0]], answers];
}

const input = require('fs').readFileSync(0);
const lines = [];
for (let at = 0; at < input.length;) {
  const n = input.readUInt32BE(at);
  lines.push(JSON.stringify(judge(input.subarray(at + 4, at + 4 + n))));
  at += 4 + n;
}
process.stdout.write(lines.join('\n') + '\n');
