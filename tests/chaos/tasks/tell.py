"""A plain program as a schedule's `command`: says begin and end to the witness whose address is its argument."""

import json
import os
import socket
import sys
import time

due_at, attempt = os.environ["SINGD_DUE_AT"].replace("Z", "+00:00"), int(os.environ["SINGD_ATTEMPT"])
words = {"schedule": os.environ["SINGD_SCHEDULE"], "due_at": due_at, "attempt": attempt,
         "epoch": int(os.environ["SINGD_EPOCH"]), "node": "", "pid": os.getpid(), "home": ""}  # fmt: skip
voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
voice.connect(sys.argv[1])
for at in ("begin", "tick", "end"):
    voice.send(json.dumps({"at": at, **words, "boot": time.clock_gettime(time.CLOCK_BOOTTIME)}).encode())
    if at != "end":
        time.sleep(float(sys.argv[2]) / 2)
