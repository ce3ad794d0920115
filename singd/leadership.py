"""Leadership: campaign, serve a term while it can be trusted, step down, repeat.

Rules of this file:
- Being leader means being inside the term's scope; no flag says so.
- Trust is counted from the moment a heartbeat was *sent*: a slow answer can only shorten it. The server frees the
  lock `lease_s` after the last statement it received, so this node stops `MARGIN_S` before that could be.
- Any error, time-out or refusal ends the term. The lock session is closed, never repaired.

      open (name lock, register) -> campaign (waits) -> term: watch + serve -> close -> wait -> open ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count

import trio

from singd.errors import EdgeError, Resigned, TermLost
from singd.events import Campaigning, Emit, FilesDiffer, LedgerAway, Notice, TermBegan, TermEnded
from singd.ports import Clock, Election, NodeInfo, Term

HEARTBEAT_S = 1.0
MARGIN_S = 1.0
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0
STEADY_S = 5.0
"""A campaign that lasted so long, the wait for the lock and the term together, was a good one: the next one begins at
once. One that fails at its first write (a full disk) does not make a storm of epochs."""
REST_S = 2.0
"""After an operator had this node resign it does not campaign for so long: another one gets the lock."""

FILES_EVERY = 10
"""Beats between two looks at which configuration each live node has."""

SLOW_S = 0.5
"""An answer that takes longer is a slow one."""

SHORT = 8
"""Characters of a content hash that people compare."""

ServeTerm = Callable[[Term], Awaitable[None]]
Prepare = Callable[[], Awaitable[None]]


class Trust:
    """How long the present term may be believed, in seconds on the boot clock; 0.0 outside a term."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.until = 0.0
        self.epoch: int | None = None

    def remaining_s(self) -> float:
        """Seconds of trust left; 0.0 if there is none."""
        return max(self.until - self._clock.boot(), 0.0)


async def lead(
    election: Election,
    node: NodeInfo,
    clock: Clock,
    trust: Trust,
    prepare: Prepare,
    serve: ServeTerm,
    emit: Emit,
) -> None:
    """Campaign and serve terms for ever; ends only by cancellation.

    Args:
        election: The lock session.
        node: Who this daemon is.
        clock: Its boot clock counts trust.
        trust: Written here, read by status.
        prepare: Waited for before each campaign: the node is registered.
        serve: The work of a leader; cancelled when the term is over.
        emit: Where events go.
    """
    retry_s = RETRY_FIRST_S
    while True:
        began: float | None = None
        rest_s = 0.0
        try:
            await prepare()
            await election.open(node)
            began = clock.boot()
            emit(Campaigning())
            term = await election.campaign()
            await _serve_term(election, term, clock, trust, serve, emit)
        except Resigned:
            retry_s, rest_s = RETRY_FIRST_S, REST_S
        except (EdgeError, TermLost) as error:
            if began is not None and clock.boot() - began >= STEADY_S:
                retry_s = RETRY_FIRST_S
            emit(LedgerAway(str(error), retry_s, error.cure))
        finally:
            with trio.CancelScope(shield=True):
                await election.close()
        await trio.sleep(rest_s + retry_s)
        retry_s = min(retry_s * 2, RETRY_MOST_S)


async def _serve_term(
    election: Election,
    term: Term,
    clock: Clock,
    trust: Trust,
    serve: ServeTerm,
    emit: Emit,
) -> None:
    """One term: the watch keeps it trusted, the service does its work, the first to fail ends both."""
    emit(TermBegan(term.epoch))
    trust.epoch = term.epoch
    reason, resigned = "stopped", False
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_watch, election, term, clock, trust, emit)
            await serve(term)
            nursery.cancel_scope.cancel()
    except* (EdgeError, TermLost, Resigned) as lost:
        resigned = all(isinstance(error, Resigned) for error in leaves(lost))
        reason = "; ".join(str(error) for error in leaves(lost))
    finally:
        trust.until, trust.epoch = 0.0, None
        emit(TermEnded(term.epoch, reason))
    if resigned:
        raise Resigned(reason)
    if reason != "stopped":
        raise TermLost(reason)


async def _watch(
    election: Election,
    term: Term,
    clock: Clock,
    trust: Trust,
    emit: Emit,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Send a beat each second; raise TermLost as soon as the term cannot be trusted any more."""
    seen: Mapping[str, str] = {}
    sent = await _beat(election, term, clock, trust)
    task_status.started()
    for beats in count():
        # A server that answers slowly is asked for nothing that could wait: the next beat would come late.
        if beats % FILES_EVERY == 0 and clock.boot() - sent < SLOW_S:
            seen = _compared(seen, await _files(election, trust), emit)
        await trio.sleep(max(sent + HEARTBEAT_S - clock.boot(), 0.0))
        sent = await _beat(election, term, clock, trust)


async def _files(election: Election, trust: Trust) -> Mapping[str, str]:
    with suppress(trio.TooSlowError), trio.fail_after(trust.remaining_s()):
        return await election.files()
    raise TermLost("the database did not answer in time")


def _compared(before: Mapping[str, str], now: Mapping[str, str], emit: Emit) -> Mapping[str, str]:
    """Tell once that live nodes have different configurations, and once that they agree again."""
    # A version that does not say what it would lead with counts for nothing.
    differed, differ = (len(set(files.values()) - {""}) > 1 for files in (before, now))
    if differ and before != now:
        emit(FilesDiffer({node: content_hash[:SHORT] for node, content_hash in now.items()}))
    elif differed and not differ:
        emit(Notice("info", "all live nodes have the same configuration again"))
    return now


async def _beat(election: Election, term: Term, clock: Clock, trust: Trust) -> float:
    """Prove the term; when that was sent, on the boot clock."""
    sent = clock.boot()
    if trust.until and sent >= trust.until:
        raise TermLost("the heartbeat came too late: this process or machine stood still")
    patience = (trust.until or sent + term.lease_s - MARGIN_S) - sent
    with suppress(trio.TooSlowError):
        with trio.fail_after(patience):
            await election.beat(term)
        trust.until = sent + term.lease_s - MARGIN_S
        return sent
    raise TermLost("the database did not answer a heartbeat in time")


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The single exceptions of a group, however nested."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
