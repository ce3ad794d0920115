"""The daemon's side of one warm worker: give it attempts, read what comes back, know what has not begun.

What we know of an attempt at any moment, and from where:

    given ──ticket read back by us──> recalled: certainly not begun, free to run elsewhere
      │
      └─ticket gone, mark seen──> begun ──result line──> reported
                                    └──process gone──> failed with its cause (or as it was decided)
         ticket gone, no mark, process gone: not begun, free to run elsewhere
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import trio

from singd.core.values import Report, State
from singd.edges.worker import wire
from singd.edges.worker.entry import Entry
from singd.edges.worker.output import OUTPUT_MOST, PIPE_SIZE, Splitter, drain
from singd.errors import EdgeError, KeeperGone
from singd.ports import Exit, Keeper, Process, ProcessSpec

F_SETPIPE_SZ = 1031
COALESCE_S = 0.001
"""Results of a hand are read this often; a single attempt's at once."""
OUTPUT_PAUSE_S = 0.005
RECALL_S = 0.050
"""While an attempt takes longer than this its worker holds no other."""
READY_S = 30.0
PAGE = os.sysconf("SC_PAGE_SIZE")
STARTED_WITH = "from singd.edges.worker.worker_main import main; main()"


class Owner(Protocol):
    """What a worker tells its executor."""

    def finished(self, entry: Entry, report: Report, seconds: float | None) -> None:
        """One attempt is over; `seconds` is how long its body took, if it ran to its end."""
        ...

    def returned(self, entries: Sequence[Entry]) -> None:
        """These have not begun and must run elsewhere."""
        ...

    def changed(self, worker: Warm) -> None:
        """It became ready, or has room again."""
        ...


class Warm:
    """One worker process.

    Attributes:
        outstanding: Index -> attempt given to it and not finished, in order.
        current: The attempt that has begun and not finished.
        retiring: Takes no new attempts.
    """

    def __init__(self, owner: Owner, key: tuple[str, str], grace_s: float) -> None:
        self.owner, self.key, self.grace_s = owner, key, grace_s
        self.outstanding: dict[int, Entry] = {}
        self.current: Entry | None = None
        self.process: Process | None = None
        self.ready = self.was_ready = self.retiring = False
        self.given = 0
        self.width = 1
        self.born = self.idle_since = trio.current_time()
        self.ended_at: float | None = None
        self.fault = ""
        self._nonce = secrets.token_hex(8).encode()
        self._splitter = Splitter(self._nonce)
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self._writable = trio.Event()
        self._fds: list[int] = []
        self._scope = trio.CancelScope()

    # ------------------------------------------------------------------ life

    async def live(
        self, keeper: Keeper, spec: Callable[[dict[int, int], str], ProcessSpec], paths: Sequence[str]
    ) -> None:
        """From the spawn until the process, its tree and its last word are gone.

        Raises:
            EdgeError: It could not be started.
            KeeperGone: The keeper died; everything it held has been reported.
        """
        gone: KeeperGone | None = None
        try:
            await self._spawn(keeper, spec)
            self._send(json.dumps({"nonce": self._nonce.decode(), "paths": list(paths)}).encode() + b"\n")
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                for loop in (self._results, self._output, self._write, self._starting):
                    nursery.start_soon(loop)
                gone = await self._wait()
                nursery.cancel_scope.cancel()
        except KeeperGone as error:
            gone = error
        finally:
            self._last_words(gone)
        if gone is not None:
            raise gone

    async def _wait(self) -> KeeperGone | None:
        assert self.process is not None
        try:
            ended = await self.process.wait()
        except KeeperGone as error:
            return error
        self.fault = self.fault or describe(ended)
        return None

    async def _spawn(self, keeper: Keeper, spec: Callable[[dict[int, int], str], ProcessSpec]) -> None:
        try:
            self._stream, theirs = socket.socketpair()
            self._take, self._tickets = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._fds = [self._tickets, self._take]
            self._reader, writer = os.pipe2(os.O_CLOEXEC)
            self._fds.append(self._reader)
        except OSError as error:
            raise EdgeError(f"no pipes for a worker: {error}") from error
        self._stream.setblocking(False)
        os.set_blocking(self._reader, False)
        _enlarge(self._reader)
        try:
            fds = {1: writer, 2: writer, wire.STREAM_FD: theirs.fileno(), wire.TICKETS_FD: self._take}
            self.process = await keeper.spawn(spec(fds, f"singd worker {self.key[0]}"))
        finally:
            theirs.close()
            os.close(writer)
        if self.ended_at is not None:
            self.process.end(0)

    async def _starting(self) -> None:
        await trio.sleep(READY_S)
        if not self.ready:
            self.fault = f"the worker was not ready after {READY_S:g} s"
            self.end(0)

    def rss(self) -> int:
        """Bytes of memory it holds now; 0 if it is gone."""
        try:
            with open(f"/proc/{self.process.pid if self.process else 0}/statm", "rb") as file:
                return int(file.read().split()[1]) * PAGE
        except OSError:
            return 0

    def end(self, grace_s: float) -> None:
        """End the process and its tree; nothing more is given to it."""
        self.retiring = True
        self.ended_at = self.ended_at or trio.current_time()
        if self.process is not None:
            self.process.end(grace_s)

    def abandon(self) -> None:
        """It does not die (state D): settle its attempts without it."""
        self.fault = "the process could not be killed"
        self._scope.cancel()

    def _last_words(self, gone: KeeperGone | None) -> None:
        """Read what is left in the pipes, then settle every attempt that is still here."""
        self.retiring, self.ready = True, False
        if len(self._fds) == 3:
            self._read_results()
            self._read_output()
            self._keep(self._splitter.rest())
            self._stream.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        cause = str(gone) if gone else self.fault or "the executor was stopped"
        left, self.outstanding = list(self.outstanding.values()), {}
        for entry in left:
            if entry.begun_at is not None or entry.ending is not None or gone:
                self.owner.finished(entry, entry.ended(cause, unknown=gone is not None), None)
        if not gone:
            self.owner.returned([e for e in left if e.begun_at is None and e.ending is None])

    # ------------------------------------------------------------------ giving and taking back

    def room(self, hand: int) -> int:
        """How many more attempts of a task with this hand it would take."""
        if self.retiring or not self.ready or self._slow():
            return 0
        width = hand if not self.outstanding else min(hand, self.width)
        return max(0, width - len(self.outstanding))

    def _slow(self) -> bool:
        begun = self.current.begun_at if self.current is not None else None
        return begun is not None and trio.current_time() - begun > RECALL_S

    def give(self, entries: Sequence[Entry]) -> None:
        """Hand over; each is answered through the owner."""
        lines, tickets = bytearray(), bytearray()
        for entry in entries:
            try:
                lines += wire.encode_work(self.given, entry.work)
            except (ValueError, TypeError) as error:
                entry.begin()
                self.owner.finished(entry, entry.report(State.FAILED, str(error)), None)
                continue
            tickets += self.given.to_bytes(wire.TICKET, "little")
            self.width = min(self.width, entry.hand) if self.outstanding else entry.hand
            self.outstanding[self.given] = entry
            self.given += 1
        self._send(lines)
        os.write(self._tickets, tickets)  # at most 64 at a time: far below the pipe's size

    def recall(self) -> list[Entry]:
        """Take back whatever the worker has not taken; it then has at most one attempt."""
        back: list[Entry] = []
        while True:
            try:
                data = os.read(self._take, wire.TICKET * 512)
            except BlockingIOError:
                return back
            if not data:
                return back
            numbers = (
                int.from_bytes(data[i : i + wire.TICKET], "little") for i in range(0, len(data), wire.TICKET)
            )
            back += [self.outstanding.pop(number) for number in numbers if number in self.outstanding]

    def end_attempt(self, entry: Entry, state: State, reason: str) -> None:
        """End one attempt without touching another: by taking it back, or by ending the process under it."""
        if entry.ending is not None:
            return
        back = self.recall()
        if entry in back:
            back.remove(entry)
            self.owner.finished(entry, entry.never_begun(reason, wanted=True), None)
        elif next(reversed(self.outstanding.values()), None) is entry:
            # The last ticket taken: no other attempt is in there.
            entry.ending, entry.reason = state, reason
            self.end(self.grace_s)
        # else: the worker has gone on to another attempt, so this one's result is already on its way.
        self.owner.returned(back)

    def _send(self, data: bytes | bytearray) -> None:
        self._outgoing += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._stream.send(self._outgoing)]
        except BlockingIOError:
            self._writable.set()
        except OSError:
            self._outgoing.clear()  # the worker is gone: its exit tells

    async def _write(self) -> None:
        while True:
            await self._writable.wait()
            self._writable = trio.Event()
            await trio.lowlevel.wait_writable(self._stream)
            self._flush()

    # ------------------------------------------------------------------ results

    async def _results(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._stream)
            if not self._read_results():
                return
            if len(self.outstanding) > 1:
                await trio.sleep(COALESCE_S)

    def _read_results(self) -> bool:
        """Read and settle what has come; False at the end of the stream."""
        alive = True
        while True:
            try:
                data = self._stream.recv(1 << 18)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._buffer += data
            if not data:
                alive = False
                break
        lines = self._buffer.split(b"\n")
        self._buffer = lines.pop()
        if len(self._buffer) > wire.FRAME_MOST:
            self._broke("a line without an end")
            return False
        if lines:
            self._read_output()  # what an attempt printed was in the pipe before its result was sent
            for line in lines:
                self._hear(line)
            self.owner.changed(self)
        return alive

    def _hear(self, line: bytes | bytearray) -> None:
        if self.fault:
            return  # it is being ended for what it said before
        try:
            frame = json.loads(line)
            if "ready" in frame:
                self.ready = self.was_ready = True
            elif "progress" in frame:
                done, total, note = frame["progress"]
                self.outstanding[frame["index"]].progress = (int(done), int(total), str(note)[:1000])
            else:
                self._settle(frame, len(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._broke(f"{type(error).__name__}: {error}")

    def _settle(self, frame: dict[str, Any], size: int) -> None:
        """One result; anything odd about it raises and is a protocol error."""
        if size > wire.RESULT_MOST + 4 * wire.ERROR_MOST:
            raise ValueError("a result that is too large")
        fields = checked(frame)
        entry = self.outstanding[frame["index"]]
        begun = frame.get("begun", True) is not False
        if begun and entry.begun_at is None:
            entry.begin()
        del self.outstanding[frame["index"]]
        if self.current is entry:
            self.current = None
        if not self.outstanding:
            self.idle_since = trio.current_time()
        seconds = float(frame["to"]) - float(frame["from"])
        if frame.get("left"):
            self.end(0)
        if not begun:
            self.owner.finished(entry, entry.never_begun(fields["error"]), None)
            return
        if entry.ending is None and fields["state"] is State.CANCELLED:
            fields |= {"state": State.FAILED, "error": "ended by a SIGTERM that singd did not send"}
        late = entry.ending is State.TIMED_OUT and seconds > entry.work.timeout_s
        if entry.ending is not None and (late or fields["state"] is not State.SUCCEEDED):
            self.owner.finished(entry, entry.report(entry.ending, entry.reason), seconds)
            return
        self.owner.finished(entry, entry.report(**fields), seconds)

    def _broke(self, how: str) -> None:
        self.fault = self.fault or f"the worker broke the protocol: {how[:500]}"
        self.owner.returned(self.recall())
        self.end(0)

    # ------------------------------------------------------------------ output

    async def _output(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._reader)
            if not self._read_output():
                return
            await trio.sleep(OUTPUT_PAUSE_S)

    def _read_output(self) -> bool:
        for data in drain(self._reader):
            if not data:
                return False
            for part in self._splitter.feed(data):
                if isinstance(part, int):
                    self._begun(part)
                else:
                    self._keep(part)
        return True

    def _begun(self, index: int) -> None:
        entry = self.outstanding.get(index)
        if entry is not None:
            entry.begin()
            self.current = entry

    def _keep(self, data: bytes) -> None:
        entry = self.current
        if entry is not None and data and entry.write(data) > OUTPUT_MOST:
            self.end_attempt(entry, State.FAILED, f"wrote more than {OUTPUT_MOST >> 20} MiB of output")


def checked(frame: dict[str, Any]) -> dict[str, Any]:
    """The report's fields in a frame from a worker, whose word is not trusted.

    Raises:
        ValueError, KeyError, TypeError: Something is not as it must be.
    """
    state = State(frame["state"])
    if state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        raise ValueError(f"a worker cannot say {state}")
    result, skipped, retry = frame.get("result"), frame.get("skipped"), frame.get("retry_after_s")
    if not (result is None or isinstance(result, dict)) or not (skipped is None or isinstance(skipped, str)):
        raise TypeError("a result of the wrong type")
    return {
        "state": state, "error": str(frame.get("error", "")), "result": result,
        "skipped": skipped if skipped is None else wire.clip(skipped, 1024),
        "retry_after_s": None if retry is None else min(max(float(retry), 0.0), 1e9),
        "give_up": frame.get("give_up") is True,
        "started_at": float(frame["from"]), "finished_at": float(frame["to"]),
    }  # fmt: skip


def describe(end: Exit) -> str:
    """How a process ended, for people."""
    if end.status == 0:
        return "the process exited with status 0 without a result"
    if end.status > 0:
        return f"the process exited with status {end.status} without a result"
    return killed_by(-end.status)


def killed_by(number: int) -> str:
    """The name of the signal, and what it usually means."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    meaning = signal.strsignal(number)
    hint = " (out of memory?)" if number == signal.SIGKILL else f" ({meaning})" if meaning else ""
    return f"killed by {name}{hint}"


def _enlarge(fd: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return  # a small pipe only means more turns


def worker_argv(title: str) -> tuple[str, ...]:
    """The command line of a worker; `title` is for people who read `ps`."""
    return (sys.executable, "-I", "-c", STARTED_WITH, title)
