"""A Python worker for the tests: it gives a job's data back as its result, unless it is told to misbehave.

A job tells it by its data, an object with "do":

    echo     (or no "do") answer with the data
    raw      answer with the frame, as a string, to show what came over the wire
    who      answer with the worker's pid, directory and PUSHPULL_ variables
    fail     answer with an error; "error", "detail" and "retry" go along if the data has them
    flat     answer without "data": the fields of "fields" stand in the message itself
    anon     answer without "id"
    twice    answer, then answer again with another result
    junk     send messages that are no answers, then answer
    spawn    start a process in a session of its own that would live for ever, answer with its pid
    wait     open the FIFO "path" for reading and wait until it was written to and closed, then answer
    hang     never answer
    exit     leave with "status" (default 0), without an answer
    kill     die by "signal" (default 9), without an answer

Its environment tells it by WORKER_DO, words with commas between them:

    no-ready       never say ready
    two-readies    say ready twice
    ignore-term    ignore SIGTERM
    junk           send junk before ready
    twice          answer every job twice
    anon           leave out every id
    reverse=N      gather up to N jobs, as long as the next is there within a moment; answer the last one first
    leave=N        close the sockets and exit 0 after N answers

With WORKER_LOG it appends a line "PID ID ATTEMPT" to that file as it takes up each job.
"""

import json
import os
import signal
import subprocess
import sys

import zmq

JUNK = [
    b"",
    b"\x00\xff\xfe",
    b"no json",
    b"[]",
    b"17",
    b'{"type":"result"',
    b'{"no":"type"}',
    b'{"type":"nonsense"}',
    b'{"type":"result","id":18446744073709551615,"data":0}',
    b'{"type":"result","id":"one","data":0}',
    b'{"type":"error","id":-1,"error":7}',
    b"[" * 10_000,
]
GATHER_MS = 100


class Options:
    """What WORKER_DO says."""

    def __init__(self, text):
        words = dict((word.split("=", 1) + [""])[:2] for word in text.split(",") if word)
        self.ready = 0 if "no-ready" in words else 2 if "two-readies" in words else 1
        self.ignore_term = "ignore-term" in words
        self.junk = "junk" in words
        self.twice = "twice" in words
        self.anon = "anon" in words
        self.reverse = int(words.get("reverse", 1))
        self.leave = int(words.get("leave", 0))
        known = {"no-ready", "two-readies", "ignore-term", "junk", "twice", "anon", "reverse", "leave"}
        if not known.issuperset(words):
            sys.exit(f"WORKER_DO: unknown word in {text!r}")


def who():
    variables = {name: value for name, value in os.environ.items() if name.startswith("PUSHPULL_")}
    return {"pid": os.getpid(), "cwd": os.getcwd(), **variables}


def spawn():
    forever = subprocess.Popen(["sleep", "1000000"], start_new_session=True)
    return {"pid": os.getpid(), "spawned": forever.pid}


def answers(frame, job, options, results):
    """The messages that answer `job`; some wishes end the worker or never return."""
    data = job.get("data")
    wishes = data if isinstance(data, dict) else {}
    wish = wishes.get("do", "echo")
    answer = {"type": "result", "id": job.get("id"), "data": data}
    if wish == "raw":
        answer["data"] = frame.decode()
    elif wish == "who":
        answer["data"] = who()
    elif wish == "fail":
        said = {name: wishes[name] for name in ("detail", "retry") if name in wishes}
        answer = {"type": "error", "id": job.get("id"), "error": wishes.get("error", "asked to fail"), **said}
    elif wish == "flat":
        answer = {"type": "result", "id": job.get("id"), **wishes.get("fields", {})}
    elif wish == "junk":
        for junk in JUNK:
            results.send(junk)
    elif wish == "spawn":
        answer["data"] = spawn()
    elif wish == "wait":
        with open(wishes["path"], "rb") as fifo:
            fifo.read()
    elif wish == "hang":
        while True:
            signal.pause()
    elif wish == "exit":
        results.context.destroy(linger=-1)
        sys.exit(wishes.get("status", 0))
    elif wish == "kill":
        os.kill(os.getpid(), wishes.get("signal", signal.SIGKILL))
    elif wish not in ("echo", "anon", "twice"):
        answer = {"type": "error", "id": job.get("id"), "error": f"unknown wish {wish!r}", "retry": False}

    if options.anon or wish == "anon":
        answer.pop("id")
    if options.twice or wish == "twice":
        return [answer, {**answer, "data": "the second answer"}]
    return [answer]


def gather(jobs, at_most):
    """One frame, and more as long as they come without a pause."""
    frames = [jobs.recv()]
    while len(frames) < at_most and jobs.poll(GATHER_MS):
        frames.append(jobs.recv())
    return frames


def note(job):
    log = os.environ.get("WORKER_LOG")
    if log:
        with open(log, "a") as lines:
            lines.write(f"{os.getpid()} {job.get('id')} {job.get('attempt')}\n")


def main():
    options = Options(os.environ.get("WORKER_DO", ""))
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context = zmq.Context()
    jobs = context.socket(zmq.PULL)
    jobs.connect(os.environ["PUSHPULL_JOBS"])
    results = context.socket(zmq.PUSH)
    results.connect(os.environ["PUSHPULL_RESULTS"])
    if options.junk:
        for junk in JUNK:
            results.send(junk)
    for _ in range(options.ready):
        results.send_json({"type": "ready", "pid": os.getpid()})

    answered = 0
    while not options.leave or answered < options.leave:
        at_most = min(options.reverse, options.leave - answered) if options.leave else options.reverse
        for frame in reversed(gather(jobs, at_most)):
            job = json.loads(frame)
            note(job)
            for answer in answers(frame, job, options, results):
                results.send_json(answer)
            answered += 1
    context.destroy(linger=-1)


main()
