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
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import trio

from singd.core.values import State
from singd.edges.worker import answers, proctree, wire
from singd.edges.worker.answers import ProtocolError
from singd.edges.worker.channel import Channel
from singd.edges.worker.entry import Entry, Owner
from singd.edges.worker.output import OUTPUT_MOST, Splitter
from singd.errors import KeeperGone
from singd.ports import Keeper, Process, ProcessSpec

Spec = Callable[[dict[int, int], str], ProcessSpec]
COALESCE_S = 0.001
"""Results of a hand are read this often; a single attempt's at once."""
OUTPUT_PAUSE_S = 0.005
RECALL_S = 0.050
"""While an attempt takes longer than this its worker holds no other."""
READY_S = 30.0


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
        self.given, self.width = 0, 1
        self.born = self.idle_since = trio.current_time()
        self.ended_at: float | None = None
        self.fault = ""
        self._channel: Channel | None = None
        self._nonce = secrets.token_hex(8).encode()
        self._splitter = Splitter(self._nonce)
        self._broken, self._scope = False, trio.CancelScope()

    # ------------------------------------------------------------------ life

    async def live(self, keeper: Keeper, spec: Spec, paths: Sequence[str]) -> None:
        """From the spawn until the process, its tree and its last word are gone.

        Raises:
            EdgeError: It could not be started.
            KeeperGone: The keeper died; everything it held has been reported.
        """
        gone: KeeperGone | None = None
        try:
            self._channel = Channel()
            await self._spawn(keeper, spec, self._channel)
            self._channel.put(
                json.dumps({"nonce": self._nonce.decode(), "paths": list(paths)}).encode() + b"\n"
            )
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                for loop in (self._results, self._output, self._channel.write, self._starting):
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
        self.fault = self.fault or answers.cause(ended)
        return None

    async def _spawn(self, keeper: Keeper, spec: Spec, channel: Channel) -> None:
        try:
            self.process = await keeper.spawn(spec(channel.theirs(), f"singd worker {self.key[0]}"))
        finally:
            channel.handed()
        if self.ended_at is not None:
            self.process.end(0)

    async def _starting(self) -> None:
        await trio.sleep(READY_S)
        if not self.was_ready:
            self.fault = f"the worker was not ready after {READY_S:g} s"
            self.end(0)

    def rss(self) -> int:
        """Bytes of memory it holds now; 0 if it is gone."""
        return proctree.rss(self.process.pid) if self.process is not None else 0

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
        self.retiring = True
        if self._channel is not None:
            self._read_results(self._channel)
            self._read_output(self._channel)
            self._keep(self._splitter.rest())
            self._channel.close()
            self._channel = None
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
        assert self._channel is not None
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
        self._channel.put(lines, tickets)

    def recall(self) -> list[Entry]:
        """Take back whatever the worker has not taken; it then has at most one attempt."""
        back = self._channel.take_back() if self._channel is not None else []
        return [self.outstanding.pop(index) for index in back if index in self.outstanding]

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

    # ------------------------------------------------------------------ results

    async def _results(self) -> None:
        assert self._channel is not None
        while True:
            await self._channel.readable()
            if not self._read_results(self._channel):
                return
            if len(self.outstanding) > 1:
                await trio.sleep(COALESCE_S)

    def _read_results(self, channel: Channel) -> bool:
        """Read and settle what has come; False when nothing more will, or may."""
        try:
            lines, alive = channel.lines()
            if lines:
                # What an attempt printed was in the pipe before its result was sent.
                self._read_output(channel)
            for line in lines:
                self._hear(line)
        except (ProtocolError, ValueError) as error:
            self._break(str(error))
            return False
        if lines:
            self.owner.changed(self)
        return alive

    def _hear(self, line: bytes | bytearray) -> None:
        if self._broken:
            return  # it is being ended for what it said before
        frame = answers.parse(line)
        if "ready" in frame:
            self.ready = self.was_ready = True
            return
        index = frame.get("index")
        if not isinstance(index, int) or index not in self.outstanding:
            raise ProtocolError("a word about an attempt that it does not have")
        entry = self.outstanding[index]
        if "progress" in frame:
            entry.progress = answers.progress_of(frame)
        else:
            fields = answers.fields_in(frame)
            del self.outstanding[index]
            self._settle(entry, fields, frame)

    def _settle(self, entry: Entry, fields: dict[str, Any], frame: dict[str, Any]) -> None:
        """One result: its attempt's, unless somebody decided otherwise before it came."""
        if self.current is entry:
            self.current = None
        if not self.outstanding:
            self.idle_since = trio.current_time()
        if frame.get("left"):
            self.end(0)
        if frame.get("begun", True) is False:
            self.owner.finished(entry, entry.never_begun(fields["error"]), None)
            return
        if entry.begun_at is None:
            entry.begin()
        seconds = fields["finished_at"] - fields["started_at"]
        if entry.ending is None and fields["state"] is State.CANCELLED:
            fields |= {"state": State.FAILED, "error": "ended by a SIGTERM that singd did not send"}
        late = entry.ending is State.TIMED_OUT and seconds > entry.work.timeout_s
        if entry.ending is not None and (late or fields["state"] is not State.SUCCEEDED):
            fields = {"state": entry.ending, "error": entry.reason}
        self.owner.finished(entry, entry.report(**fields), seconds)

    def _break(self, how: str) -> None:
        self._broken = True
        self.fault = self.fault or f"the worker broke the protocol: {how[:500]}"
        self.owner.returned(self.recall())
        self.end(0)

    # ------------------------------------------------------------------ output

    async def _output(self) -> None:
        assert self._channel is not None
        while True:
            await self._channel.output_readable()
            if not self._read_output(self._channel):
                return
            await trio.sleep(OUTPUT_PAUSE_S)

    def _read_output(self, channel: Channel) -> bool:
        for data in channel.output():
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
