#!/usr/bin/env python3
"""A worker for pushpulld, all of it: it counts the words of a job's text. Needs pyzmq."""

import json
import os
import zmq

context = zmq.Context()
jobs = context.socket(zmq.PULL)
jobs.connect(os.environ["PUSHPULL_JOBS"])
results = context.socket(zmq.PUSH)
results.connect(os.environ["PUSHPULL_RESULTS"])
results.send_json({"type": "ready"})

while True:
    job = json.loads(jobs.recv())
    try:
        answer = {"type": "result", "data": {"words": len(job["data"]["text"].split())}}
    except Exception as problem:
        answer = {"type": "error", "error": repr(problem)}
    results.send_json({"id": job["id"], **answer})
