// The worker of the demonstration that pushpulld descends from, told again in our own words: the older event style
// of the ZeroMQ binding, bare jobs in, and answers without an `id`. Only the endpoints come from the environment.

const zmq = require("zeromq/v5-compat");

const jobs = zmq.socket("pull");
const messages = zmq.socket("push");
jobs.connect(process.env.PUSHPULL_JOBS);
messages.connect(process.env.PUSHPULL_RESULTS);

jobs.on("message", (frame) => {
  const job = JSON.parse(frame);
  const answer = {
    type: "result",
    workerId: process.pid,
    jobId: job.jobId,
    createdAt: job.timestamp,
    respondedAt: Date.now(),
  };
  messages.send(JSON.stringify(answer));
});

messages.send(JSON.stringify({ type: "ready", worker: process.pid }));
