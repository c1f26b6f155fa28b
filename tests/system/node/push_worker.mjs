// What test_worker_push.py asks of a worker: push_worker.mjs LIBRARY ADDRESS
const [library, address] = process.argv.slice(2);
const { BufferError, ConnectionError, RpcError, Worker, run } = await import(`${library}/lib/index.js`);

const worker = new Worker({ concurrency: 0 });
worker._linger = Number(process.env.LINGER ?? worker._linger / 1000) * 1000;
let kept = null;

function once(ctx, { op, kind = "text", topic, reason = "", code = 1000, after, data, conn }) {
  const message = kind === "binary" ? data : kind === "json" ? JSON.parse(data) : data.toString();
  if (op === "progress") return ctx.progress(message);
  if (op === "publish") return worker.publish(topic, message, after ? conn : null);
  if (conn === null) throw new RangeError("no connection");
  if (op === "push") conn.push(message);
  else if (op === "keep") conn.keep(data);
  else if (op === "disconnect") conn.disconnect(code, reason);
  else conn[op](topic ?? undefined);
}

worker.method("push.send", (params, ctx) => {
  const { repeat = 1, size } = params;
  const more = { conn: params.kept ? kept : ctx.conn, data: size ? Buffer.alloc(size, "x") : ctx.blob };
  const result = { sent: 0, refused: 0, error: 0 };
  for (let n = 0; n < repeat; n++) {
    try {
      once(ctx, { ...params, ...more });
      result.sent++;
    } catch (failure) {
      result.refused++;
      result.error = failure instanceof ConnectionError ? -107 : failure instanceof BufferError ? -105 : -22;
    }
  }
  return result;
});

worker.method("push.keep", (params, ctx) => {
  kept = ctx.conn;
  return true;
});

worker.event("connect", (ctx) => {
  if (ctx.params.path === "/no") throw new RpcError(403, "not you");
  ctx.conn.push(ctx.params);
  return true;
});
worker.event("disconnect", (ctx) => kept.push(ctx.params));
worker.event("message", (ctx) => ctx.conn.push(ctx.message()));
worker.method("demo.sleep", ({ ms }) => new Promise((resolve) => setTimeout(resolve, ms)), { params: ["ms"] });

run(worker, address, []);
