"""A process that is never where it was: `hopper.py MARK` forks, and the parent exits, in a new session each time, for ever."""

import os
import sys
import time

if os.fork() == 0:
    while True:
        os.setsid()
        if os.fork():
            os._exit(0)
if "--leave" not in sys.argv:
    time.sleep(300)
time.sleep(0.1)
