// A well-behaved Node.js worker for the tests: it gives a job's data back as its result. A job whose data is
// {"do":"fail"} is answered with an error, and {"do":"die"} ends the worker without an answer.

const { Pull, Push } = require("zeromq");

async function main() {
  const jobs = new Pull();
  const results = new Push();
  jobs.connect(process.env.PUSHPULL_JOBS);
  results.connect(process.env.PUSHPULL_RESULTS);
  await results.send(JSON.stringify({ type: "ready", pid: process.pid }));

  for await (const [frame] of jobs) {
    const { id, data } = JSON.parse(frame);
    const wish = data === null ? undefined : data.do;
    if (wish === "die") {
      process.kill(process.pid, "SIGKILL");
    }
    const answer =
      wish === "fail" ? { type: "error", id, error: "asked to fail", retry: false } : { type: "result", id, data };
    await results.send(JSON.stringify(answer));
  }
}

main();
