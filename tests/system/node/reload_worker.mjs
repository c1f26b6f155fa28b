// Numbers for its clients, pushed to each and published: reload_worker.mjs LIBRARY
const { Worker, run } = await import(`${process.argv[2]}/lib/index.js`);

const worker = new Worker({ name: "numbers", concurrency: 0 });
const conns = new Set();
let timer, last = 0;

function tell(n) {
  worker.publish("numbers", { published: n });
  for (const conn of conns) conn.push({ pushed: n });
}

worker.method("follow", (params, { conn }) => {
  conns.add(conn);
  conn.subscribe("numbers");
  return true;
});

worker.method("begin", () => {
  timer = setInterval(() => tell(++last), 1);
  return true;
});

worker.method("end", () => {
  clearInterval(timer);
  tell(0);
  return last;
});

worker.method("echo", (params) => params);

run(worker, "unix:/nowhere", []);
