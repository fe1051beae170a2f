#!/usr/bin/env node
// A worker for pushpulld, all of it: it counts the letters of a job's text. Needs zeromq 6.

const { Pull, Push } = require("zeromq");

async function main() {
  const jobs = new Pull();
  const results = new Push();
  jobs.connect(process.env.PUSHPULL_JOBS);
  results.connect(process.env.PUSHPULL_RESULTS);
  await results.send(JSON.stringify({ type: "ready" }));

  for await (const [frame] of jobs) {
    const { id, data } = JSON.parse(frame);
    let answer;
    try {
      answer = { type: "result", id, data: { letters: data.text.match(/\p{Letter}/gu)?.length ?? 0 } };
    } catch (problem) {
      answer = { type: "error", id, error: String(problem) };
    }
    await results.send(JSON.stringify(answer));
  }
}

main();
