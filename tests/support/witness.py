"""The witness: a process outside the fault domain that writes down what bodies say, and when it heard them.

    body ──datagram {"at": "begin", "schedule": …}──▶ recorder ──▶ witness.jsonl   (one line each, stamped on arrival)

A datagram on a unix socket crosses network namespaces, needs no Postgres, and arrives even if its sender is killed the
moment after. Nothing here is ever frozen, killed or partitioned by the harness.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

WORD_MOST = 8192


def record(address: Path, file: Path) -> None:
    """Append every datagram as `boot wall text` until killed."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    listening.bind(str(address))
    address.chmod(0o666)
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    print("ready", flush=True)
    while True:
        word = listening.recv(WORD_MOST)
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.write(out, f"{boot:.6f} {time.time():.6f} ".encode() + word + b"\n")


@contextlib.contextmanager
def witness(directory: Path) -> Iterator[tuple[Path, Path]]:
    """A running recorder: its address, and the file it writes."""
    address, file = directory / "witness", directory / "witness.jsonl"
    process = subprocess.Popen(
        [sys.executable, Path(__file__), address, file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield address, file
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    record(Path(sys.argv[1]), Path(sys.argv[2]))
