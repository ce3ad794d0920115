"""What the daemon answers when an operator wants something done: trigger, cancel, pause, resume, resign, on any node.

    check what can be checked here ─▶ write the wish ─▶ wait for whose business it is ─▶ what became of it
     (names, runs, instants)           (ledger)          (any node's desk, 3 s)            (ledger)

The request's id comes from the client, which may ask again with the same one: that is the same wish. Where nobody has
taken a wish in time the answer says so, and the wish stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from singd.answers import entry, text
from singd.asking import FACTS_S, Asking, told
from singd.byhand import CANCELLED, Answer, number_of
from singd.control import Handler, find_schedule, instant_of, word
from singd.core.history import OccurrenceRow
from singd.core.values import CLUSTER, Scope, State, Verb
from singd.errors import EdgeError, SingdError
from singd.ports import Overrides
from singd.views import BadRequest, DaemonView, LedgerView, NotFound


class Refused(SingdError):
    """It cannot be done, as things are."""

    exit = 1


class OperatorHandlers:
    """The verbs that change something; `table` is what the control socket serves."""

    def __init__(self, daemon: DaemonView, ledger: LedgerView, overrides: Overrides) -> None:
        self._daemon = daemon
        self._ledger = ledger
        self._overrides = overrides

    def table(self) -> Mapping[str, Handler]:
        """Verb -> handler."""
        return {
            "trigger": self.trigger, "cancel": self.cancel, "pause": self.pause, "resume": self.resume,
            "resign": self.resign, "run": self.run,
        }  # fmt: skip

    async def trigger(self, request: Mapping[str, Any]) -> Answer:
        """Run a schedule once, now; the run, or why there is none."""
        asking = self._asking()
        found = self._daemon.snapshot()
        schedule = find_schedule(found, word(request, "name")).schedule
        node = word(request, "node", "")
        if node and schedule.scope is not Scope.NODE:
            raise BadRequest(f"{schedule.name} is the cluster's: its leader runs it", cure="leave --node out")
        owner = CLUSTER if schedule.scope is Scope.CLUSTER else node or found.node
        async with asking.ledger_near():
            await asking.check_node(owner)
            asked = await asking.ask(request, Verb.TRIGGER, schedule.name, owner)
        answer = await asking.answer(asked)
        if answer and "refused" in answer:
            raise Refused(f"{answer.get('by', owner)} cannot: {answer['refused']}", cure="`singd status`")
        return {
            "trigger": told(asked) | {"schedule": schedule.name, "owner": owner} | await self._triggered(answer)
            | {"waits_for": "" if answer else await asking.waits_for(owner)}
        }  # fmt: skip

    async def run(self, request: Mapping[str, Any]) -> Answer:
        """One run, by its id; `over` once nothing more follows."""
        run = word(request, "run")
        row = await self._find_run(run)
        if row is None:
            raise NotFound(f"there is no run {run}, or only its node knows of it", cure="`singd runs`")
        return {"run": entry(row) | {"over": is_over(row)}}

    async def cancel(self, request: Mapping[str, Any]) -> Answer:
        """End a run, and whatever would follow it; `over`: it has ended, `cancelled`: and not by itself."""
        asking = self._asking()
        run = word(request, "run")
        owner = run.rpartition(":")[0] or CLUSTER
        if not number_of(run):
            raise BadRequest(f"{run!r} is no run's id", cure="4711, or node:12: `singd runs` shows them")
        async with asking.ledger_near():
            await asking.check_node(owner)
            before = await self._cancellable(run, owner)
            if before is not None and is_over(before):
                return {"cancel": _nothing_asked(run, before)}
            asked = await asking.ask(request, Verb.CANCEL, run, owner)
        answer = await asking.answer(asked)
        row = await self._as_of_now(run) or before
        over = answer is not None if row is None else is_over(row)
        return {
            "cancel": told(asked) | _of_run(run, row, owner) | {
                "over": over, "cancelled": over and (row is None or was_cancelled(row)),
                "waits_for": "" if over else _runs_on(row) or await asking.waits_for(owner),
            }
        }  # fmt: skip

    async def pause(self, request: Mapping[str, Any]) -> Answer:
        """From now on a schedule's instants are skipped."""
        asking = self._asking()
        found = self._daemon.snapshot()
        name, until = find_schedule(found, word(request, "name")).schedule.name, instant_of(request, "until")
        if until is not None and until <= found.now:
            raise BadRequest(f"{text(until)} has passed: a pause ends in the future")
        async with asking.ledger_near():
            asked = await asking.ask(request, Verb.PAUSE, name, until=until)
        answer = await asking.answer(asked)
        return {
            "pause": told(asked) | {
                "schedule": name, "since": text(asked.asked_at), "until": text(asked.wish.until),
                "waits_for": "" if answer is not None else await asking.waits_for(CLUSTER),
            }
        }  # fmt: skip

    async def resume(self, request: Mapping[str, Any]) -> Answer:
        """End a schedule's pause."""
        asking = self._asking()
        name = find_schedule(self._daemon.snapshot(), word(request, "name")).schedule.name
        async with asking.ledger_near():
            paused = (await self._overrides.pauses()).get(name)
            asked = await asking.ask(request, Verb.RESUME, name)
        answer = await asking.answer(asked)
        was = paused is not None and paused.covers(asked.asked_at)
        return {
            "resume": told(asked) | {
                "schedule": name, "was_paused": was, "since": text(paused.since) if paused and was else None,
                "by": paused.actor if paused and was else "",
                "waits_for": "" if answer is not None else await asking.waits_for(CLUSTER),
            }
        }  # fmt: skip

    async def resign(self, request: Mapping[str, Any]) -> Answer:
        """Have the leader hand over; who leads then."""
        asking = self._asking()
        target = word(request, "node", "")
        async with asking.ledger_near():
            await asking.check_node(target)
            leading = (await self._ledger.cluster()).leading
            if leading is None:
                raise Refused("nobody leads at present", cure="`singd status`")
            asked = await asking.ask(request, Verb.RESIGN, target)
        answer = await asking.answer(asked)
        if answer is None:  # unlike other wishes it does not stand: a later leader was not meant
            await asking.withdraw(asked)
            raise EdgeError(
                f"{leading.node} does not answer",
                cure="a leader that is frozen or cut off loses the lead by itself within 6 s: `singd status`",
            )
        if "refused" in answer:
            raise Refused(f"{target}: {answer['refused']}", cure=f"singd resign {leading.node}")
        who = {"node": answer.get("node") or leading.node, "epoch": answer.get("epoch", leading.epoch)}
        return {"resign": told(asked) | who | await asking.successor(who["epoch"])}

    # -- what is so -------------------------------------------------------------------------------

    def _asking(self) -> Asking:
        return Asking(self._daemon, self._ledger, self._overrides)

    async def _triggered(self, answer: Answer | None) -> dict[str, Any]:
        """The run that it became, as of now."""
        run_id = answer.get("run_id") if answer else None
        row = await self._as_of_now(run_id) if run_id else None
        reason = row.reason if row else str((answer or {}).get("reason", ""))
        standing = row.standing if row else "skipped" if reason else "waiting" if run_id else ""
        return {"run_id": run_id, "standing": standing, "reason": reason}

    async def _cancellable(self, run: str, owner: str) -> OccurrenceRow | None:
        """The run, where this node can know of it; one that ended by itself cannot be cancelled."""
        row = await self._find_run(run)
        if row is None and owner in (CLUSTER, self._daemon.snapshot().node):
            raise NotFound(f"there is no run {run}", cure="`singd runs` lists them; old ones are deleted")
        if row is not None and is_over(row) and not was_cancelled(row):
            raise Refused(f"run {run} of {row.schedule} is over: {row.standing}", cure=f"`singd logs {run}`")
        return row

    async def _as_of_now(self, run: str) -> OccurrenceRow | None:
        try:
            with trio.move_on_after(FACTS_S):
                return await self._find_run(run)
        except EdgeError:
            pass  # told as not known
        return None

    async def _find_run(self, run: str) -> OccurrenceRow | None:
        """A run that goes on under another node's own name is known there only, until it is shipped."""
        node, number = run.rpartition(":")[0], number_of(run)
        return await (self._ledger.node_run(node, number) if node else self._ledger.run(number))


def is_over(row: OccurrenceRow) -> bool:
    """Whether nothing follows any more."""
    return row.outcome is not None or row.verdict not in (None, "ran")


def was_cancelled(row: OccurrenceRow) -> bool:
    """Whether somebody ended it, or what would have followed."""
    return row.outcome is State.CANCELLED or row.reason.startswith(CANCELLED)


def _runs_on(row: OccurrenceRow | None) -> str:
    """The node that has to end it; "" where none runs it."""
    last = row.attempts[-1] if row and row.attempts else None
    return f"node {last.node}, where it runs" if last and not last.state.terminal else ""


def _of_run(run: str, row: OccurrenceRow | None, owner: str) -> dict[str, Any]:
    """The run as an answer tells it; little is known of what only another node knows."""
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
