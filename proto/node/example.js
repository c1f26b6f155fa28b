// node example.js --listen unix:/run/frontd/app-1.sock
import { setTimeout as sleep } from "node:timers/promises";
import { HttpResponse, RpcError, Worker, run, serverEvent } from "frontd-worker";

const worker = new Worker({ name: "orders", concurrency: 64 });
const orders = new Map([[7, { id: 7, item: "tea" }]]);

worker.method("orders.get", ({ id }) => {
  if (!orders.has(id)) throw new RpcError(404, "no such order", { id });
  return orders.get(id);
}, { params: ["id"] });

worker.method("orders.add", ({ item }, ctx) => {
  const id = Math.max(...orders.keys()) + 1;
  orders.set(id, { id, item });
  ctx.conn?.subscribe("orders"); // a WebSocket: it hears of orders from now on
  worker.publish("orders", { jsonrpc: "2.0", method: "added", params: { id, item } }, ctx.conn);
  return id;
}, { params: ["item"] });

async function* ticks(signal) {
  for (;; await sleep(1000, null, { signal })) yield serverEvent(`${orders.size} orders`);
}
worker.http(({ signal }) => new HttpResponse(ticks(signal), 200, { "content-type": "text/event-stream" }));

run(worker, "unix:/run/frontd/app-1.sock");
