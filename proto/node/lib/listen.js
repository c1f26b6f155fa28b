// Where a worker listens (section 1 of proto/PROTOCOL.md): the socket that it inherits, a UNIX socket or TCP.

import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";

const BACKLOG = 128; // channels waiting to be accepted
const PATH_MAX = 107; // bytes of a socket's path, sun_path of unix(7) without the NUL

/** Listen on `address`, see Worker.run(), and give each connection to `accept`. Returns {name, close()}; close() ends it,
 * and unlinks the socket's file where that is ours. Throws when it cannot be done. */
export async function openListener(address, accept) {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, accept);
  server.on("error", () => {}); // an accept that failed costs that channel only
  if (isInherited()) {
    await listening(server, { fd: 3, exclusive: true });
    return { name: "descriptor 3", close: () => server.close() };
  }
  if (address.startsWith("unix:")) return openUnix(server, address.slice("unix:".length));
  const found = /^tcp:\/\/(.+):(\d+)$/.exec(address);
  if (found === null) throw new RangeError("neither unix:PATH nor tcp://HOST:PORT");
  const host = found[1].replace(/^\[(.*)\]$/, "$1");
  await listening(server, { host, port: Number(found[2]), backlog: BACKLOG, exclusive: true });
  return { name: `tcp://${found[1]}:${server.address().port}`, close: () => server.close() };
}

/** Whether systemd or frontd passed a socket as descriptor 3; the variables are not meant for child processes. */
function isInherited() {
  const { LISTEN_FDS: count, LISTEN_PID: pid } = process.env;
  for (const name of ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]) delete process.env[name];
  if (count === undefined || (pid !== undefined && pid !== String(process.pid))) return false;
  if (count !== "1") throw new RangeError(`LISTEN_FDS is ${count}, one socket is wanted`);
  return true;
}

function listening(server, options) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** The socket is made under another name and gets its own once it listens, so that nobody takes it for a stale one in
 * between. link() fails where the name is taken, so of two workers one has it. */
async function openUnix(server, given) {
  if (given === "" || given.startsWith("@") || given.startsWith("\0")) {
    throw new RangeError("a path is wanted; abstract sockets have no permissions");
  }
  const target = path.resolve(given);
  if (Buffer.byteLength(target) > PATH_MAX) throw new RangeError(`a path has at most ${PATH_MAX} bytes`);
  const made = path.join(path.dirname(target), `.${randomBytes(4).toString("hex")}`);
  const mask = process.umask(0o117); // mode 0660 from birth; listen() binds before it returns
  let opened;
  try {
    opened = listening(server, { path: made, backlog: BACKLOG, exclusive: true });
  } finally {
    process.umask(mask);
  }
  await opened;
  const ours = fs.lstatSync(made); // of the target too, unless somebody has replaced that
  try {
    await link(made, target);
  } catch (error) {
    server.close();
    throw error;
  } finally {
    fs.rmSync(made, { force: true });
  }
  const close = () => {
    server.close();
    if (isSame(status(target), ours)) fs.rmSync(target, { force: true });
  };
  return { name: `unix:${target}`, close };
}

/** Give `made` the name `target`, on which a stale socket may be. */
async function link(made, target) {
  for (;;) {
    try {
      return fs.linkSync(made, target);
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const found = status(target);
    if (found === undefined) continue;
    if (!found.isSocket()) throw new Error("exists and is not a socket");
    const answer = await probe(target);
    if (answer !== "ECONNREFUSED" && answer !== "ENOENT") throw new Error("somebody listens there already");
    removeStale(target, found);
  }
}

/** Unlink `target` if it is still the file that was `found`. It is taken away first, since only then nobody else can
 * replace it between the look and the unlink; what turns out to be another worker's is put back. */
function removeStale(target, found) {
  if (!isSame(status(target), found)) return;
  const taken = `${path.dirname(target)}/.${randomBytes(4).toString("hex")}`;
  try {
    fs.renameSync(target, taken);
  } catch (error) {
    if (error.code === "ENOENT") return; // another worker was faster
    throw error;
  }
  if (!isSame(status(taken), found)) {
    try {
      fs.linkSync(taken, target);
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
  }
  fs.rmSync(taken, { force: true });
}

function status(file) {
  return fs.lstatSync(file, { throwIfNoEntry: false });
}

function isSame(a, b) {
  return a !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/** The code of the error with which a connect to `file` ends, or undefined: somebody listens. A full backlog is an
 * answer too (EAGAIN). */
function probe(file) {
  return new Promise((resolve) => {
    const socket = net.connect(file);
    socket.on("connect", () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.on("error", (error) => resolve(error.code));
  });
}
