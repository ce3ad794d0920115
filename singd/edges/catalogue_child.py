"""The parent's side of a catalogue child: start it, listen for a bounded time, leave nothing behind.

A plugin may do anything when it is imported: raise, exit, crash, hang, print, start processes. Each entry point
ends with a description or a reason; where the child ends early, the entry point it was at has its reason
there, and another child goes on behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0
CHILDREN_MAX = 3
"""Children for one distribution: two entry points that end it, and then the others are not asked any more."""
_KEPT = 1024 * 1024
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
_MARK = "SINGD_CATALOGUE_CHILD"
_CODE = (
    "import json, sys; request = json.load(sys.stdin); "
    "sys.path += [entry for entry in request['path'] if entry not in sys.path]; "
    "from singd.edges.catalogue_main import main; main(request)"
)

Entry = tuple[str, str]
Answers = dict[str, dict[str, Any]]


def ask(entries: Sequence[Entry], path: Sequence[str], timeout_s: float = TIMEOUT_S) -> Answers:
    """Describe the entry points of one distribution.

    Args:
        entries: Pairs of name and `module:attribute`.
        path: `sys.path` to import from, beside the interpreter's own.
        timeout_s: Seconds for each child.

    Returns:
        By name: `{"task": …}` (see `catalogue_main.describe`) or `{"reason": …}`.
    """
    answers: Answers = {}
    left = list(entries)
    for _ in range(CHILDREN_MAX):
        found, ended = _one_child(left, path, timeout_s)
        answers |= found
        left = [entry for entry in left if entry[0] not in answers]
        if not left:
            return answers
        answers[left.pop(0)[0]] = {"reason": ended}
    return answers | {
        name: {"reason": "not looked at: its plugin ended every process that imported it"} for name, _ in left
    }


def _one_child(entries: Sequence[Entry], path: Sequence[str], timeout_s: float) -> tuple[Answers, str]:
    """What a child said, and how it ended."""
    mark = uuid.uuid4().hex
    answer, theirs = os.pipe()
    request = {"entries": entries, "path": list(path), "answer": theirs, "alarm": timeout_s + 2}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _CODE], env=_environment(mark), start_new_session=True, pass_fds=(theirs,), cwd="/",
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    try:
        assert child.stdin is not None, "asked for above"
        assert child.stderr is not None, "asked for above"
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(request).encode())
            child.stdin.close()
        said, noise, in_time = _listen(child.pid, answer, child.stderr.fileno(), timeout_s)
    finally:
        _end(child, mark)
        os.close(answer)
    return _parse(said), _how(
        child.returncode, noise
    ) if in_time else f"it took longer than {timeout_s:g} s to import"


def _environment(mark: str) -> dict[str, str]:
    """Only what an import needs: no credentials of ours, and the mark by which strays are found."""
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {_MARK: mark}


def _listen(child: int, answer: int, errors: int, timeout_s: float) -> tuple[bytes, bytes, bool]:
    """Read both until the child is gone. Their ends are not waited for: a grandchild may hold the pipes open for ever."""
    read = {answer: b"", errors: b""}
    deadline = time.monotonic() + timeout_s
    watch = os.pidfd_open(child)
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        for descriptor in (watch, answer, errors):
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        gone = False
        while not gone and time.monotonic() < deadline:
            ready = {key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))}
            gone = watch in ready
            for descriptor in {answer, errors} if gone else ready:
                read[descriptor] = (read[descriptor] + _available(selector, descriptor))[-_KEPT:]
    os.close(watch)
    return read[answer], read[errors], gone


def _available(selector: selectors.BaseSelector, descriptor: int) -> bytes:
    try:
        part = os.read(descriptor, _KEPT)
    except BlockingIOError:
        return b""
    if not part and descriptor in selector.get_map():
        selector.unregister(descriptor)
    return part


def _end(child: subprocess.Popen[bytes], mark: str) -> None:
    """End the child and what it started: its session's group, and whoever carries the mark. Only then is it reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stderr):
        with contextlib.suppress(BrokenPipeError):
            if stream is not None:
                stream.close()
    for pid in _marked(f"{_MARK}={mark}".encode()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _marked(mark: bytes) -> list[int]:
    """Processes with this in their environment: also those that left the session."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


def _parse(said: bytes) -> Answers:
    answers: Answers = {}
    for line in said.splitlines():
        with contextlib.suppress(
            ValueError, KeyError, TypeError, AttributeError
        ):  # a plugin may write there too
            message: Mapping[str, Any] = json.loads(line)
            answers[str(message["name"])] = {
                key: message[key] for key in ("task", "reason") if key in message
            }
    return answers


def _how(status: int, noise: bytes) -> str:
    lines = noise.decode("utf-8", "replace").strip().splitlines()
    last = f"; its last words: {lines[-1][:500]}" if lines else ""
    if status < 0:
        return f"importing it killed the process with {signal.Signals(-status).name}{last}"
    return f"importing it ended the process with exit code {status}{last}"
