"""What the daemon answers when an operator wants something done: trigger, cancel, pause, resume, resign, on any node.

    check what can be checked here ─▶ write the wish ─▶ wait for whose business it is ─▶ what became of it
     (names, runs, instants)           (ledger)          (any node's desk, 3 s)            (ledger)

The request's id comes from the client, which may ask again with the same one: that is the same wish. Where nobody has
taken a wish in time the answer says so, and the wish stands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from uuid import uuid4

import trio

from singd.answers import entry, text
from singd.byhand import CANCELLED, number_of
from singd.control import Answer, Handler, find_schedule, instant_of, word
from singd.core.history import OccurrenceRow
from singd.core.values import CLUSTER, Override, Scope, State, Verb, Wish
from singd.errors import EdgeError, SingdError
from singd.ports import Overrides
from singd.views import BadRequest, DaemonView, LedgerView, NotFound

ANSWER_S = 3.0
"""Of the control socket's 5 s: then it is said that nobody has answered yet."""
LEDGER_S = 4.0
SUCCESSOR_S = 3.5
POLL_FIRST_S, POLL_MOST_S = 0.01, 0.2
REQUEST_CHARS = 200

FindRun = Callable[[str], Awaitable[OccurrenceRow | None]]
"""The row of a run's id, `4711` or `node:12`; None where this node cannot know it."""


class Refused(SingdError):
    """It cannot be done, as things are."""

    exit = 1


class OperatorHandlers:
    """The verbs that change something; `table` is what the control socket serves."""

    def __init__(
        self, daemon: DaemonView, ledger: LedgerView, overrides: Overrides, find_run: FindRun
    ) -> None:
        self._daemon = daemon
        self._ledger = ledger
        self._overrides = overrides
        self._find_run = find_run

    def table(self) -> Mapping[str, Handler]:
        """Verb -> handler."""
        return {
            "trigger": self.trigger, "cancel": self.cancel, "pause": self.pause, "resume": self.resume,
            "resign": self.resign, "run": self.run,
        }  # fmt: skip

    async def trigger(self, request: Mapping[str, Any]) -> Answer:
        """Run a schedule once, now; the run, or why there is none."""
        found = self._daemon.snapshot()
        schedule = find_schedule(found, word(request, "name")).schedule
        node = word(request, "node", "")
        if node and schedule.scope is not Scope.NODE:
            raise BadRequest(f"{schedule.name} is the cluster's: its leader runs it", cure="leave --node out")
        owner = CLUSTER if schedule.scope is Scope.CLUSTER else node or found.node
        async with self._ledger_near():
            await self._check_node(owner)
            asked = await self._ask(request, Verb.TRIGGER, schedule.name, owner)
        answer = await self._answer(asked)
        if answer and "refused" in answer:
            raise Refused(
                f"{answer.get('by', 'the leader')} cannot: {answer['refused']}", cure="`singd status`"
            )
        return {
            "trigger": _asked(asked) | {"schedule": schedule.name, "owner": owner} | await self._triggered(answer)
            | {"waits_for": "" if answer else await self._waits_for(owner)}
        }  # fmt: skip

    async def _triggered(self, answer: Answer | None) -> dict[str, Any]:
        """The run that it became, as of now."""
        run_id = answer.get("run_id") if answer else None
        row = await self._row(run_id) if run_id else None
        reason = row.reason if row else str((answer or {}).get("reason", ""))
        standing = row.standing if row else "skipped" if reason else "waiting" if run_id else ""
        return {"run_id": run_id, "standing": standing, "reason": reason}

    async def run(self, request: Mapping[str, Any]) -> Answer:
        """One run, by its id; `over` once nothing more follows."""
        run = word(request, "run")
        row = await self._row(run)
        if row is None:
            raise NotFound(f"there is no run {run}", cure="`singd runs` lists them")
        return {"run": entry(row) | {"run_id": run, "over": is_over(row)}}

    async def cancel(self, request: Mapping[str, Any]) -> Answer:
        """End a run, and whatever would follow it; `over` tells whether it has ended, `cancelled` whether by this."""
        run = word(request, "run")
        owner = run.rpartition(":")[0] or CLUSTER
        if not number_of(run):
            raise BadRequest(f"{run!r} is no run's id", cure="4711, or node:12: `singd runs` shows them")
        async with self._ledger_near():
            before = await self._before_cancel(run, owner)
            if before is not None and is_over(before):
                return {"cancel": _nothing_asked(run, before)}
            asked = await self._ask(request, Verb.CANCEL, run, owner)
        answer = await self._answer(asked)
        row = await self._row(run) or before
        over = answer is not None if row is None else is_over(row)
        return {
            "cancel": _asked(asked) | _of_run(run, row, owner) | {
                "over": over, "cancelled": over and (row is None or was_cancelled(row)),
                "waits_for": "" if over else await self._waits_for(owner),
            }
        }  # fmt: skip

    async def pause(self, request: Mapping[str, Any]) -> Answer:
        """From now on a schedule's instants are skipped."""
        found = self._daemon.snapshot()
        name, until = find_schedule(found, word(request, "name")).schedule.name, instant_of(request, "until")
        if until is not None and until <= found.now:
            raise BadRequest(f"{text(until)} has passed: a pause ends in the future")
        async with self._ledger_near():
            asked = await self._ask(request, Verb.PAUSE, name, until=until)
        answer = await self._answer(asked)
        return {
            "pause": _asked(asked) | {
                "schedule": name, "since": text(asked.asked_at), "until": text(asked.wish.until),
                "waits_for": "" if answer is not None else await self._waits_for(CLUSTER),
            }
        }  # fmt: skip

    async def resume(self, request: Mapping[str, Any]) -> Answer:
        """End a schedule's pause."""
        found = self._daemon.snapshot()
        name = find_schedule(found, word(request, "name")).schedule.name
        async with self._ledger_near():
            paused = (await self._overrides.pauses()).get(name)
            asked = await self._ask(request, Verb.RESUME, name)
        answer = await self._answer(asked)
        was = paused is not None and paused.covers(asked.asked_at)
        return {
            "resume": _asked(asked) | {
                "schedule": name, "was_paused": was, "since": text(paused.since) if paused and was else None,
                "by": paused.actor if paused and was else "",
                "waits_for": "" if answer is not None else await self._waits_for(CLUSTER),
            }
        }  # fmt: skip

    async def resign(self, request: Mapping[str, Any]) -> Answer:
        """Have the leader hand over; who leads then."""
        target = word(request, "node", "")
        async with self._ledger_near():
            await self._check_node(target)
            leading = (await self._ledger.cluster()).leading
            if leading is None:
                raise Refused("nobody leads at present", cure="`singd status`")
            asked = await self._ask(request, Verb.RESIGN, target)
        answer = await self._answer(asked)
        if answer is None:  # a wish that nobody took in time is none any more: a later leader was not meant
            await self._overrides.take(asked.number, {"refused": "nobody answered in time"})
            raise EdgeError(f"{leading.node} does not answer", cure="`singd status`")
        if "refused" in answer:
            raise Refused(f"{target}: {answer['refused']}", cure=f"singd resign {leading.node}")
        after = await self._successor(int(answer.get("epoch", leading.epoch)))
        return {
            "resign": _asked(asked)
            | {"node": answer.get("node") or leading.node, "epoch": leading.epoch}
            | after
        }

    # -- the wish ---------------------------------------------------------------------------------

    async def _ask(
        self,
        request: Mapping[str, Any],
        verb: Verb,
        target: str,
        owner: str = CLUSTER,
        until: datetime | None = None,
    ) -> Override:
        """Write it down; asked again with the same id it is the same wish, and nothing else."""
        identity = word(request, "request", "") or str(uuid4())
        if len(identity) > REQUEST_CHARS:
            raise BadRequest(f"a request's id has at most {REQUEST_CHARS} characters")
        actor = f"uid {request.get('peer_uid', '?')} on {self._daemon.snapshot().node}"
        wish = Wish(verb, target, identity, actor, owner, until, word(request, "note", ""))
        asked = await self._overrides.ask(wish)
        if (asked.wish.verb, asked.wish.target, asked.wish.owner) != (verb, target, owner):
            raise BadRequest(
                f"request {identity} was {asked.wish.verb} {asked.wish.target}: another wish needs another id"
            )
        return asked

    async def _answer(self, asked: Override) -> Answer | None:
        """What became of it, if anybody says so in time."""
        wait_s = POLL_FIRST_S
        try:
            with trio.move_on_after(ANSWER_S):
                while (answer := await self._overrides.answer(asked.number)) is None:
                    await trio.sleep(wait_s)
                    wait_s = min(wait_s * 1.5, POLL_MOST_S)
                return answer
        except EdgeError:
            pass  # the wish stands, and what waits for it is told
        return None

    @asynccontextmanager
    async def _ledger_near(self) -> AsyncIterator[None]:
        """The ledger has to answer in time, or nothing was asked for sure."""
        try:
            with trio.fail_after(LEDGER_S):
                yield
        except trio.TooSlowError:
            raise EdgeError(
                "the ledger does not answer: nobody can be asked", cure="`singd status`"
            ) from None
        except EdgeError as error:
            raise EdgeError(
                f"the ledger cannot be reached: {error}", cure=error.cure or "`singd status`"
            ) from error

    # -- what is so -------------------------------------------------------------------------------

    async def _check_node(self, name: str) -> None:
        if name in ("", CLUSTER, self._daemon.snapshot().node):
            return
        known = [node.name for node in (await self._ledger.cluster()).nodes]
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise NotFound(
                f"there is no node {name!r}",
                cure=f"did you mean {close[0]}?" if close else "`singd status` has them all",
            )

    async def _before_cancel(self, run: str, owner: str) -> OccurrenceRow | None:
        """The run as it is, where this node can know; one that ended otherwise cannot be cancelled."""
        await self._check_node(owner)
        row = await self._find_run(run)
        if row is None and owner in (CLUSTER, self._daemon.snapshot().node):
            raise NotFound(f"there is no run {run}", cure="`singd runs` lists them; old ones are deleted")
        if row is not None and is_over(row) and not was_cancelled(row):
            raise Refused(f"run {run} of {row.schedule} is over: {row.standing}", cure=f"`singd logs {run}`")
        return row

    async def _row(self, run: str) -> OccurrenceRow | None:
        """As of now, where the ledger says it in time."""
        try:
            with trio.move_on_after(1):
                return await self._find_run(run)
        except EdgeError:
            pass  # told as not known
        return None

    async def _waits_for(self, owner: str) -> str:
        """Whose business it is, in words."""
        if owner != CLUSTER:
            return f"node {owner}"
        try:
            with trio.move_on_after(1):
                leading = (await self._ledger.cluster()).leading
                return f"the leader, {leading.node}" if leading else "a leader: nobody leads at present"
        except EdgeError:
            pass  # whoever it is, it is waited for
        return "a leader"

    async def _successor(self, epoch: int) -> dict[str, Any]:
        """Who leads after that term; "" where nobody does yet."""
        try:
            with trio.move_on_after(SUCCESSOR_S):
                while True:
                    leading = (await self._ledger.cluster()).leading
                    if leading and leading.epoch > epoch:
                        return {"leader": leading.node, "leader_epoch": leading.epoch}
                    await trio.sleep(POLL_MOST_S)
        except EdgeError:
            pass  # it resigned; who follows is told by `singd status`
        return {"leader": "", "leader_epoch": None}


def is_over(row: OccurrenceRow) -> bool:
    """Whether nothing follows any more."""
    return row.outcome is not None or row.verdict not in (None, "ran")


def was_cancelled(row: OccurrenceRow) -> bool:
    """Whether somebody ended it, or what would have followed."""
    return row.outcome is State.CANCELLED or row.reason.startswith(CANCELLED)


def _asked(asked: Override) -> dict[str, Any]:
    wish = asked.wish
    return {"request": wish.request, "asked_at": text(asked.asked_at), "actor": wish.actor, "note": wish.note}


def _of_run(run: str, row: OccurrenceRow | None, owner: str) -> dict[str, Any]:
    """The run as an answer tells it; little is known of another node's own."""
    if row is None:
        return {"run_id": run, "schedule": "", "standing": "", "node": owner, "reason": ""}
    said = entry(row)
    reason = said["reason"] or said["error"] or ""
    return {
        "run_id": run,
        "schedule": row.schedule,
        "standing": row.standing,
        "node": said["node"] or "",
        "reason": reason,
    }


def _nothing_asked(run: str, row: OccurrenceRow) -> dict[str, Any]:
    """It had been cancelled before: asking twice is asking once."""
    none = {"request": None, "asked_at": None, "actor": "", "note": ""}
    return none | _of_run(run, row, row.owner) | {"over": True, "cancelled": True, "waits_for": ""}
