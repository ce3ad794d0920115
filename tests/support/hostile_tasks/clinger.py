"""A process that will not go: `clinger.py MARK DEPTH` ignores TERM, and leaves behind a chain of DEPTH children,
each double-forked, in its own session, with an empty environment. Every one has MARK in its argv."""

import os
import signal
import sys
import time


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    mark, depth = sys.argv[1], int(sys.argv[2])
    if depth > 0 and os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-I", "-S", __file__, mark, str(depth - 1)], {})
        os._exit(0)
    if "--leave" in sys.argv:
        time.sleep(0.3)
        return
    time.sleep(300)


main()
