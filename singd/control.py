"""What the daemon answers when an operator asks: one coroutine a verb, over two views that the shell is given.

    control socket -> ControlHandlers -> DaemonView (what is so in this process, at once)
     (an edge)                        -> LedgerView (what the ledger says, may take a while or fail)

Answers are JSON values and are the contract of `--json`; the client turns them into tables. `status` and `list`
answer without the ledger too: what cannot be known is null, and the problem is the first line.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TypeVar

import trio

from singd.answers import (
    begun_late,
    behind,
    counted_out,
    explained,
    listed,
    output_from,
    plain,
    problems_of,
    standing,
    text,
)
from singd.bounds import RUNS_DEFAULT, RUNS_MAX
from singd.cluster import cluster_facts, cluster_problems, in_progress, node_problems
from singd.core.cluster import Cluster
from singd.core.history import AttemptRow, Judgement, OccurrenceRow, judge
from singd.core.values import CLUSTER, Log, Schedule, Scope
from singd.errors import EdgeError
from singd.views import (
    BadRequest,
    DaemonView,
    LedgerView,
    NotFound,
    PartialAnswer,
    RunningAttempt,
    ScheduleView,
    Setting,
    Snapshot,
    Trouble,
)

__all__ = [
    "Answer", "ControlHandlers", "DaemonView", "Handler", "LedgerView", "RunningAttempt", "ScheduleView", "Setting",
    "Snapshot", "Trouble",
]  # fmt: skip

T = TypeVar("T")
Answer = Mapping[str, Any]
Handler = Callable[[Mapping[str, Any]], Awaitable[Answer]]
LEDGER_PATIENCE_S = 2.0
"""Of the control socket's 5 s: with an answer that lacks the ledger's part there is still time to say so."""
NEAR_RUNS = 3
RUNNING_MOST = 100
"""Attempts in progress that `status` tells of."""


class ControlHandlers:
    """The daemon's verbs; `table` is what the control socket serves."""

    def __init__(self, daemon: DaemonView, ledger: LedgerView) -> None:
        self._daemon = daemon
        self._ledger = ledger

    def table(self) -> Mapping[str, Handler]:
        """Verb -> handler."""
        return {
            "status": self.status, "list": self.list, "show": self.show,
            "runs": self.runs, "logs": self.logs, "why": self.why,
        }  # fmt: skip

    async def status(self, request: Mapping[str, Any]) -> Answer:
        """What is wrong, then the facts."""
        found = self._daemon.snapshot()
        latest, trouble = await self._read(self._ledger.latest)
        cluster, rows = (None if trouble else (await self._read(self._cluster_and_rows))[0]) or (None, ())
        answer = await trio.to_thread.run_sync(_status, found, cluster, latest or {}, trouble)
        return {"status": answer | in_progress(found, rows)}

    async def _cluster_and_rows(self) -> tuple[Cluster, Sequence[OccurrenceRow]]:
        """Both within one patience: `status` answers in time though the ledger is slow."""
        return await self._ledger.cluster(), await self._ledger.running(RUNNING_MOST)

    async def list(self, request: Mapping[str, Any]) -> Answer:
        """Every schedule with its trigger, next instant and last end."""
        found = self._daemon.snapshot()
        latest, trouble = await self._read(self._ledger.latest)
        return await trio.to_thread.run_sync(_list, found, latest or {}, trouble)

    async def show(self, request: Mapping[str, Any]) -> Answer:
        """One schedule: its values and their origins."""
        name = word(request, "name")
        found = self._daemon.snapshot()
        view = find_schedule(found, name)
        latest, _ = await self._read(self._ledger.latest)
        settings = [plain(asdict(setting)) for setting in self._daemon.settings(name)]
        return {"show": listed(view, found.now, (latest or {}).get(name)) | {"settings": settings}}

    async def runs(self, request: Mapping[str, Any]) -> Answer:
        """What became of each instant, newest first, ranges counted out; `more` where older ones were left out."""
        name, since = word(request, "name", ""), instant_of(request, "since")
        limit = request.get("limit", RUNS_DEFAULT)
        if not isinstance(limit, int) or not 1 <= limit <= RUNS_MAX:
            raise BadRequest(f"-n is from 1 to {RUNS_MAX}")
        triggers = {view.schedule.name: view.schedule.trigger for view in self._daemon.snapshot().schedules}
        rows = await self._ledger.runs(name or None, since, limit + 1)
        if not rows and name and name not in triggers:
            raise _no_such_schedule(name, triggers)
        return await trio.to_thread.run_sync(counted_out, rows, triggers, since, limit)

    async def why(self, request: Mapping[str, Any]) -> Answer:
        """The verdict of any instant, and its reason."""
        name, at = word(request, "name"), instant_of(request, "at")
        if at is None:
            raise BadRequest("which instant? give --at")
        found = self._daemon.snapshot()
        schedule = next((view.schedule for view in found.schedules if view.schedule.name == name), None)
        judged = judge(at, found.now, schedule, await self._ledger.known(name, at, _owner(found, schedule)))
        if judged.state == "unknown_schedule":
            raise _no_such_schedule(name, [view.schedule.name for view in found.schedules])
        near = await self._ledger.runs(name, None, NEAR_RUNS) if judged.state == "not_an_instant" else ()
        around = await self._around(name, found, schedule, judged)
        recorded = {"recorded": [text(row.due_at) for row in near]}
        waits_for_leader = judged.state == "pending" and schedule and schedule.scope is Scope.CLUSTER
        leader = await self._leader() if waits_for_leader else ""
        return {"why": explained(name, at, found, schedule, judged, leader) | recorded | around}

    async def _leader(self) -> str:
        """Who leads, by the ledger: the one that is to deal with what is due."""
        leading = (await self._ledger.cluster()).leading
        return leading.node if leading else ""

    async def _around(
        self, name: str, found: Snapshot, schedule: Schedule | None, judged: Judgement
    ) -> dict[str, Any]:
        """What the instant before has to do with it: `instead`, its verdict for one that is none; `behind`, what it waited for."""
        off = judged.state == "not_an_instant"
        if schedule is None or judged.before is None or not (off or begun_late(judged.row)):
            return {"instead": None, "behind": None}
        known = await self._ledger.known(name, judged.before, _owner(found, schedule))
        before = judge(judged.before, found.now, schedule, known)
        if off:
            return {
                "instead": explained(name, judged.before, found, schedule, before) | {"behind": None},
                "behind": None,
            }
        return {"instead": None, "behind": behind(schedule, judged.row, before.row)}

    async def logs(self, request: Mapping[str, Any]) -> Answer:
        """The output of an attempt from byte `offset` on; the newest attempt of a schedule, or of a run, or one of it."""
        row, attempt = await self._find_attempt(word(request, "run"), request.get("attempt"))
        offset = request.get("offset", 0)
        if not isinstance(offset, int) or offset < 0:
            raise BadRequest("the offset is not a number of bytes")
        live = self._daemon.live_log(row.occurrence_id) if not attempt.state.terminal else None
        log = live or await self._ledger.log(row.occurrence_id, attempt.number)
        data, gap, end = output_from(log or Log(), offset)
        return {
            "logs": {
                "run_id": row.run_id, "attempt": attempt.number, "schedule": row.schedule, "due_at": text(row.due_at),
                "state": str(attempt.state), "over": attempt.state.terminal, "kept": log is not None,
                "data": base64.b64encode(data).decode("ascii"), "gap": gap, "offset": end, "error": attempt.error,
                "node": attempt.node, "abandoned": live is None and attempt.abandoned,
                "elsewhere": live is None and not attempt.state.terminal and attempt.node != self._daemon.snapshot().node,
            }
        }  # fmt: skip

    async def _find_attempt(self, run: str, number: object) -> tuple[OccurrenceRow, AttemptRow]:
        row = await self._find_run(run)
        attempts = [one for one in row.attempts if number is None or one.number == number]
        if not attempts:
            which = "has not begun yet" if number is None else f"has no attempt {number}"
            raise NotFound(f"run {row.run_id} of {row.schedule} {which}", cure=f"`singd runs {row.schedule}`")
        return row, attempts[-1]

    async def _find_run(self, run: str) -> OccurrenceRow:
        node, _, number = run.rpartition(":")
        if number.isascii() and number.isdigit():
            row = await (self._ledger.node_run(node, int(number)) if node else self._ledger.run(int(number)))
            if row is None:
                raise NotFound(f"there is no run {run}", cure="`singd runs` lists them; old ones are deleted")
            return row
        found = self._daemon.snapshot()
        schedules = {view.schedule.name: view.schedule for view in found.schedules}
        if (begun := await self._ledger.begun(run, _owner(found, schedules.get(run)))) is not None:
            return begun
        raise NotFound(f"{run} has not run yet") if run in schedules else _no_such_schedule(run, schedules)

    async def _read(self, question: Callable[[], Awaitable[T]]) -> tuple[T | None, Sequence[Trouble]]:
        """The ledger's answer, or why there is none."""
        try:
            with trio.fail_after(LEDGER_PATIENCE_S):
                return await question(), ()
        except PartialAnswer as error:
            return error.answer, (Trouble(f"the ledger cannot be read: {error}", error.cure),)
        except EdgeError as error:
            return None, (Trouble(f"the ledger cannot be read: {error}", error.cure),)
        except trio.TooSlowError:
            return None, (Trouble(f"the ledger did not answer within {LEDGER_PATIENCE_S:g} s"),)


def _owner(found: Snapshot, schedule: Schedule | None) -> str | None:
    """Whose occurrences of a schedule are meant here; of one that is configured no more: anybody's."""
    if schedule is None:
        return None
    return CLUSTER if schedule.scope is Scope.CLUSTER else found.node


def _status(
    found: Snapshot,
    cluster: Cluster | None,
    latest: Mapping[str, OccurrenceRow],
    trouble: Sequence[Trouble],
) -> dict[str, Any]:
    """In a thread, like `_list`: thousands of schedules take a while, and the daemon has instants to keep."""
    shared = cluster_problems(found, cluster) if cluster else ()
    read = () if found.state == "no ledger" else trouble  # which has been said
    problems = [*found.troubles, *read, *shared, *node_problems(found), *problems_of(found, latest)]
    facts = standing(found) | cluster_facts(found, cluster)
    return facts | {"problems": [asdict(problem) for problem in problems]}


def _list(found: Snapshot, latest: Mapping[str, OccurrenceRow], trouble: Sequence[Trouble]) -> Answer:
    entries = [listed(view, found.now, latest.get(view.schedule.name)) for view in found.schedules]
    return {"list": entries, "problems": [asdict(problem) for problem in trouble]}


def find_schedule(found: Snapshot, name: str) -> ScheduleView:
    """The schedule of this name; NotFound with the nearest one."""
    by_name = {view.schedule.name: view for view in found.schedules}
    if name not in by_name:
        raise _no_such_schedule(name, by_name)
    return by_name[name]


def _no_such_schedule(name: str, known: Iterable[str]) -> NotFound:
    close = get_close_matches(name, list(known), n=1)
    return NotFound(
        f"there is no schedule {name!r}",
        cure=f"did you mean {close[0]}?" if close else "`singd list` has them all",
    )


def word(request: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A request's text; BadRequest where it is none, or missing without a default."""
    value = request.get(key, default)
    if not isinstance(value, str):
        raise BadRequest(f"{key} is missing, or not text")
    return value


def instant_of(request: Mapping[str, Any], key: str) -> datetime | None:
    """A request's instant, if it has one; BadRequest where it is none."""
    value = request.get(key)
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"{key} is not an instant") from None
