"""The scheduler: cluster scheduling inside one term.

      adopt ── what earlier terms left: cursors, waiting occurrences, live attempts
        │
      loop: wishes -> absorb ends -> plan what is due -> record it -> open attempts where there is room -> wait
           (byhand)                    (core)            (ledger)        (ledger, then the runner)

Rules of this file:
- The clock is read once a round; every decision of the round uses that instant.
- Nothing is started that the ledger has not claimed; nothing is planned twice because the cursor moves in
  the same transaction as the rows it covers.
- All state here belongs to the term and is read from the ledger at its begin; losing the term loses nothing.
- Of one schedule one occurrence is worked on at a time, unless overlap = allow; the others wait in order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import trio

from singd.agenda import (
    RUNS,
    WAITS,
    Budget,
    Due,
    Line,
    Unfinished,
    from_plan,
    opened,
    take_over,
)
from singd.attempts import Ended, Run
from singd.byhand import Asked, ByHand, Wishes
from singd.core import skew
from singd.core.plan import Plan, plan
from singd.core.trigger import next_after
from singd.core.values import (
    CLUSTER,
    Attempt,
    Overlap,
    Override,
    Pause,
    Recorded,
    Recording,
    Schedule,
    Verdict,
)
from singd.errors import Resigned, TermLost
from singd.events import Armed, Emit, NotRun
from singd.ports import Adoption, Clock, Ledger, Term
from singd.runner import Runner
from singd.strangers import Strangers
from singd.waiting import Starting, Waiting

LONGEST_SLEEP_S = 10.0
"""Clock steps and suspend heal themselves within this."""
BATCH = 2_000
"""Schedules dealt with in one transaction: while these start, the next are planned."""


@dataclass(frozen=True, slots=True)
class NodeScope:
    """What is different for a node's own schedules: whose occurrences they are, and what a startup is."""

    owner: str
    started_at: datetime


class Scheduler:
    """Cluster scheduling of one term, or, given a `NodeScope`, a node's own; make one a term, `run` is its life.

    Attributes:
        lines: Schedule name -> its standing, for status.
        pauses: Schedule name -> its newest pause; replaced as a whole when there is word of another.
    """

    def __init__(
        self,
        term: Term,
        generation: int,
        schedules: Iterable[Schedule],
        ledger: Ledger,
        runner: Runner,
        clock: Clock,
        emit: Emit,
        in_touch_s: Callable[[], float],
        node: NodeScope | None = None,
    ) -> None:
        self._in_touch_s = in_touch_s
        self._node = node
        self._term = term
        self._generation = generation
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._ledger = ledger
        self._runner = runner
        self._clock = clock
        self._emit = emit
        self._by_due: list[tuple[datetime, str]] = []
        self._waiting = Waiting()
        self._ended: list[Ended] = []
        self._verdicts: dict[int, tuple[str, str]] = {}
        self._bell = trio.Event()
        self._wishes = Wishes()
        self._by_hand = ByHand(term, ledger, self)
        self._resigned = ""
        self._read = clock.now(), clock.boot()
        self.lines: dict[str, Line] = {}
        self.pauses: Mapping[str, Pause] = {}

    @property
    def epoch(self) -> int:
        """Of its term."""
        return self._term.epoch

    def ask(self, override: Override) -> Asked:
        """Have a trigger or a cancel carried out in the next round.

        Its answer is None where there is nothing to say yet, or this scheduler ended before.
        """
        asked = self._wishes.put(override)
        self._bell.set()
        return asked

    def resign(self, reason: str) -> None:
        """End the term with the next round; what runs goes on."""
        self._resigned = reason
        self._bell.set()

    async def run(self) -> None:
        """Schedule until cancelled.

        Raises:
            TermLost: The ledger refused a write of this epoch.
            EdgeError: The ledger cannot be reached.
            Resigned: An operator asked for it.
        """
        try:
            await self._run()
        finally:
            self._wishes.close()

    async def _run(self) -> None:
        self._runner.on_end, self._runner.on_room = self._on_end, self._ring
        adoption = await self._ledger.adopt(self._term)
        if self._node is not None:
            adoption = replace(adoption, startup_at=self._node.started_at)
        await self._take_over(adoption, self._clock.now())
        strangers = Strangers(
            self._term,
            self._ledger,
            self._clock,
            self._emit,
            self._schedules,
            self._runner.knows,
            self._on_end,
            self._in_touch_s,
        )
        self._emit(Armed(len(self.lines), *self._first()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(strangers.watch, adoption.live)
            await self._rounds()

    def _first(self) -> tuple[str, datetime | None]:
        return (self._by_due[0][1], self._by_due[0][0]) if self._by_due else ("", None)

    async def _rounds(self) -> None:
        while True:
            bell = self._bell = trio.Event()
            if self._resigned:
                raise Resigned(self._resigned)
            await self._wishes.serve(self._by_hand.carry_out)
            now = self._time()
            self._absorb(now)
            await self._plan_due(now)
            await self._flush_verdicts()
            await self._start_ready()
            if self._ended:
                continue
            with trio.move_on_after(self._sleep_s(self._clock.now())):
                await bell.wait()

    def _time(self) -> datetime:
        """The wall clock, which the last heartbeat compared with the database's: one set since then is not believed.

        Raises:
            TermLost: It was set; who campaigns next has its clock compared.
        """
        (now, boot), (then, booted) = (self._clock.now(), self._clock.boot()), self._read
        self._read = now, boot
        set_by = (now - then).total_seconds() - (boot - booted)
        if self._node is None and abs(set_by) > skew.MOST.total_seconds():
            raise TermLost(f"this node's clock was set by {set_by:+.0f} s")
        return now

    def _sleep_s(self, now: datetime) -> float:
        heads = [self._by_due[0][0]] if self._by_due else []
        heads += [self._waiting.retry_at] if self._waiting.retry_at else []
        wait = (min(heads) - now).total_seconds() if heads else LONGEST_SLEEP_S
        return min(max(wait, 0.0), LONGEST_SLEEP_S)

    def _ring(self) -> None:
        if self._waiting:
            self._bell.set()

    # -- taking over ------------------------------------------------------------------------------

    async def _take_over(self, adoption: Adoption, now: datetime) -> None:
        self.lines, new = take_over(
            self._schedules.values(), adoption, now, self._node.owner if self._node else CLUSTER
        )
        if new:
            await self._ledger.record(self._term, self._generation, [], new)
        for line in self.lines.values():
            self._arm(line, next_after(line.trigger, line.cursor))
        for item in adoption.unfinished:
            known = self.lines.get(item.occurrence.schedule)
            if known is not None and item.retry_at is not None:
                self._waiting.for_retry(known, known.unfinished[item.occurrence_id], item.retry_at)
        for line in self.lines.values():
            self._start_next(line)

    # -- planning ---------------------------------------------------------------------------------

    def _arm(self, line: Line, next_at: datetime | None) -> None:
        line.next_at = next_at
        if next_at is not None:
            heapq.heappush(self._by_due, (next_at, line.schedule.name))

    async def _plan_due(self, now: datetime) -> None:
        while self._by_due and self._by_due[0][0] <= now:
            due: list[Due] = []
            planned: list[tuple[Line, Plan]] = []
            while self._by_due and self._by_due[0][0] <= now and len(due) < BATCH:
                line = self.lines[heapq.heappop(self._by_due)[1]]
                pause = self.pauses.get(line.schedule.name)
                step = plan(line.trigger, line.schedule.policy, line.cursor, now, pause=pause)
                planned.append((line, step))
                due.extend(from_plan(line, step))
            for line, step in planned:
                line.cursor = step.cursor or line.cursor
                self._arm(line, step.next_at)
            await self._record(due, {line.schedule.name: line.cursor for line, _ in planned})

    # -- recording and starting -------------------------------------------------------------------

    async def _record(self, due: Sequence[Due], cursors: Mapping[str, datetime]) -> Sequence[Recorded]:
        """Write rows and cursors at once; attempts are opened with them as far as there is room."""
        budget = Budget(self._runner.room, self._waiting.kinds())
        recordings = [
            opened(item.recording) if item.start and budget.take(item.line) else item.recording
            for item in due
        ]
        answers = await self._ledger.record(self._term, self._generation, recordings, cursors)
        claimed = self._clock.boot()
        runs: list[Run] = []
        for item, answer in zip(due, answers, strict=True):
            if item.recording.verdict is not None:
                self._tell(item.recording)
            elif answer.occurrence_id is not None:
                self._recorded(item, answer, answer.occurrence_id, runs, claimed)
        self._runner.launch(runs)
        return answers

    def _recorded(self, item: Due, answer: Recorded, number: int, runs: list[Run], claimed: float) -> None:
        if item.replaces:
            self._replace(item.line, item.recording)
        unfinished = item.line.unfinished[number] = Unfinished(number)
        if answer.attempt is not None:
            unfinished.doing = RUNS
            runs.append(Run(answer.attempt, item.line.schedule, 0, claimed))
        elif item.start:
            self._waiting.for_room(item.line, unfinished)

    def _tell(self, recording: Recording) -> None:
        verdict = recording.verdict or Verdict.RAN
        self._emit(
            NotRun(recording.occurrence, verdict, recording.reason, recording.count, recording.due_until)
        )

    def _replace(self, line: Line, recording: Recording) -> None:
        """End what runs and let go what waits: this occurrence stands for them, and starts when they are gone."""
        reason = f"overlap = replace: the occurrence of {recording.occurrence.due_at:%FT%TZ} stands for it"
        for unfinished in list(line.unfinished.values()):
            if unfinished.doing == RUNS:
                self._runner.cancel(unfinished.occurrence_id, reason)
            else:
                self._verdicts[unfinished.occurrence_id] = (Verdict.SUPERSEDED, reason)
                del line.unfinished[unfinished.occurrence_id]

    async def _start_ready(self) -> None:
        """Open attempts for what may start, in order, as long as there is room."""
        while starting := self._waiting.take(self._runner.room):
            numbers = [unfinished.occurrence_id for _, unfinished in starting]
            attempts = await self._ledger.open_attempts(self._term, numbers)
            self._launch(starting, attempts)

    def _launch(self, starting: Sequence[Starting], attempts: Sequence[Attempt | None]) -> None:
        claimed = self._clock.boot()
        runs: list[Run] = []
        for (line, unfinished), attempt in zip(starting, attempts, strict=True):
            unfinished.doing = RUNS
            if attempt is not None:
                runs.append(Run(attempt, line.schedule, unfinished.retries_used, claimed))
        self._runner.launch(runs)

    async def _flush_verdicts(self) -> None:
        if self._verdicts:
            verdicts, self._verdicts = self._verdicts, {}
            await self._ledger.decide(self._term, verdicts)

    # -- ends -------------------------------------------------------------------------------------

    def _on_end(self, ended: Sequence[Ended]) -> None:
        self._ended.extend(ended)
        self._bell.set()

    def _absorb(self, now: datetime) -> None:
        """Take in what ended and which retries are due; start what waited for it."""
        ended, self._ended = self._ended, []
        for end in ended:
            self._take_end(end)
        for line, unfinished in self._waiting.retries_due(self.lines, now):
            self._retry(line, unfinished)

    def _take_end(self, end: Ended) -> None:
        line = self.lines.get(end.schedule)
        if line is None or end.occurrence_id not in line.unfinished:
            return
        unfinished = line.unfinished[end.occurrence_id]
        unfinished.retries_used = end.retries_used
        if end.retry_at is not None and not unfinished.unwanted:
            self._waiting.for_retry(line, unfinished, end.retry_at)
            return
        if end.retry_at is not None:
            self._verdicts[end.occurrence_id] = (Verdict.SKIPPED, unfinished.unwanted)
        del line.unfinished[end.occurrence_id]
        self._start_next(line)

    def _retry(self, line: Line, unfinished: Unfinished) -> None:
        """Its turn, unless another occurrence has begun since: one taken for lost may fail, and retry, after all."""
        if line.taken and line.schedule.policy.overlap is not Overlap.ALLOW:
            unfinished.doing = WAITS
        else:
            self._waiting.for_room(line, unfinished)

    def _start_next(self, line: Line) -> None:
        unfinished = line.next_to_start()
        if unfinished is not None:
            self._waiting.for_room(line, unfinished)

    # -- by hand ----------------------------------------------------------------------------------

    async def record(self, due: Due) -> int | None:
        """Write one row that no plan asked for; None where its identity stands already."""
        return (await self._record([due], {}))[0].occurrence_id

    def dismiss(self, line: Line, number: int) -> None:
        """An occurrence that waited waits no more; the next one has its turn."""
        del line.unfinished[number]
        self._start_next(line)
