"""Daemons with one known bug each: `python planted.py BUG run` is `singd run` with that bug switched on.

Bugs that a scheduler of this kind has had, or could have (the peers' own issues are named). Nothing in `singd` knows of
them: they are patched in from outside, here only. Each patch insists on what it replaces, so that a bug that can no longer
be planted is an error, not a test that passes.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

BUGS: dict[str, Callable[[], None]] = {}


def bug(plant: Callable[[], None]) -> Callable[[], None]:
    """Declare one, under its function's name."""
    BUGS[plant.__name__] = plant
    return plant


def _sql(changed: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Change the text of statements as they are loaded."""
    from singd.edges.postgres import session, statements

    loaded = statements.statement

    def planted(name: str) -> bytes:
        text = loaded(name).decode()
        for old, new in changed.get(name, ()):
            assert old in text, f"{name}.sql has no {old!r} any more"
            text = text.replace(old, new)
        return text.encode()

    for name in changed:
        planted(name)
    statements.statement = session.statement = planted  # type: ignore[assignment]


FENCED = ("accept_generation", "decide", "open_attempts", "record", "settle")
FENCE = "FROM leader WHERE epoch = %(epoch)s FOR SHARE"


@bug
def fence_removed() -> None:
    """1: scheduling writes go through whatever the epoch."""
    columns = ("SELECT epoch, node,", "SELECT %(epoch)s::bigint AS epoch, node,")
    changes = {name: [(FENCE, "FROM leader WHERE %(epoch)s::bigint > 0")] for name in FENCED}
    for name in ("open_attempts", "record"):
        changes[name].append(columns)
    _sql(changes)


@bug
def key_share() -> None:
    """2: FOR KEY SHARE, which the next election passes by."""
    _sql({name: [("FOR SHARE", "FOR KEY SHARE")] for name in FENCED})


@bug
def trust_from_the_answer() -> None:
    """3: trust counted from when the answer came, not from when the beat was sent."""
    import trio

    from singd import leadership

    async def beat(election: Any, term: Any, clock: Any, trust: Any) -> float:
        sent: float = clock.boot()
        if trust.until and sent >= trust.until:
            raise leadership.TermLost("the heartbeat came too late")
        patience = (trust.until or sent + term.lease_s - leadership.MARGIN_S) - sent
        with trio.move_on_after(patience):
            await election.beat(term)
            trust.until = clock.boot() + term.lease_s - leadership.MARGIN_S
            return sent
        raise leadership.TermLost("the database did not answer a heartbeat in time")

    assert leadership._beat
    leadership._beat = beat


@bug
def no_lease() -> None:
    """4: the server never ends a silent lock session."""
    from singd.edges.postgres.session import LeasedSession

    settings = LeasedSession._settings
    LeasedSession._settings = lambda self: {**settings(self), "idle_session_timeout": "1h"}  # type: ignore[method-assign]


@bug
def kept_on_error() -> None:
    """5: a heartbeat that fails costs nothing (Oban #1488)."""
    from contextlib import suppress

    from singd import leadership

    async def beat(election: Any, term: Any, clock: Any, trust: Any) -> float:
        sent: float = clock.boot()
        with suppress(leadership.TermLost):
            await election.beat(term)
        trust.until = clock.boot() + term.lease_s - leadership.MARGIN_S
        return sent

    async def files(election: Any, trust: Any) -> Mapping[str, str]:
        return {}

    assert leadership._beat
    assert leadership._files
    leadership._beat, leadership._files = beat, files


@bug
def identity_by_name() -> None:
    """6: who has my name is me (oban-py #32): the name is never in use."""
    from singd.cli import compose
    from singd.edges.postgres import presence

    made = compose.NodeInfo
    compose.NodeInfo = lambda name, process, *rest: made(name, uuid.uuid5(uuid.NAMESPACE_DNS, name), *rest)  # type: ignore[assignment,misc]

    async def always(connection: Any, node: Any, name_key: int) -> bool:
        return True

    assert presence._take_name
    presence._take_name = always


@bug
def lock_from_a_pool() -> None:
    """7: the lock's session comes from a pool that replaces connections when they are old (leoflow #1199)."""
    from singd.edges.postgres.pool import connect
    from singd.edges.postgres.session import LeasedSession

    ask, opened = LeasedSession.ask, LeasedSession.open

    async def open_session(self: Any, name: str) -> Any:
        self.born, self.named = time.monotonic(), name
        return await opened(self, name)

    async def pooled(self: Any, statement: str, values: Any) -> Any:
        if self._purpose == "lock" and statement == "prove" and time.monotonic() - self.born > 4:
            self.born = time.monotonic()
            self.drop()
            self.connection = await connect(
                self._conninfo, self.schema, f"lock {self.named}", self._settings()
            )
        return await ask(self, statement, values)

    LeasedSession.open, LeasedSession.ask = open_session, pooled  # type: ignore[method-assign]


@bug
def due_at_is_now() -> None:
    """9: the instant is when somebody looked (GoodJob #1543)."""
    from singd import scheduler

    planned = scheduler.plan

    def plan(trigger: Any, policy: Any, cursor: Any, now: Any, *rest: Any) -> Any:
        made = planned(trigger, policy, cursor, now, *rest)
        return replace(made, run=tuple(now for _ in made.run[-1:]))

    scheduler.plan = plan  # type: ignore[assignment]


@bug
def cursor_in_memory() -> None:
    """10: a new leader begins at the present moment (Dkron #1210)."""
    from singd import scheduler

    taken = scheduler.take_over

    def take_over(schedules: Any, adoption: Any, now: Any, *rest: Any) -> Any:
        forgotten = dict.fromkeys(adoption.cursors, now)
        return taken(schedules, replace(adoption, cursors=forgotten), now, *rest)

    scheduler.take_over = take_over  # type: ignore[assignment]


@bug
def new_schedule_looks_back() -> None:
    """11: a new schedule finds instants before it was accepted (Kubernetes #63371, systemd #16732)."""
    from singd.edges.postgres.ledger import PostgresLedger

    accepted = PostgresLedger.generation

    async def generation(self: Any, term: Any, content_hash: str, triggers: Any, now: Any) -> int:
        return await accepted(self, term, content_hash, triggers, now - timedelta(seconds=20))

    PostgresLedger.generation = generation  # type: ignore[method-assign]


@bug
def no_look_up() -> None:
    """13: after a COMMIT whose answer was lost, the repeat's answer is believed."""
    from singd.edges.postgres import ledger

    async def believed(connection: Any, accepted: set[str], values: Any, asked: int) -> set[str]:
        return accepted

    assert ledger._with_earlier
    ledger._with_earlier = believed


@bug
def direct_child_only() -> None:
    """15: what a task started outlives it."""
    from singd.edges.worker import keeper

    assert "import main; main(" in keeper._START
    only = (
        "from singd.edges.worker import proctree, keeper_main; import os; "
        "proctree.kill_tree = lambda roots, *rest: [proctree.send(pid, 9) for pid in roots]; "
        "proctree.tree = lambda roots, *rest: set(roots); "
        "proctree.prctl = lambda option, value: None; keeper_main.proctree.children = lambda pid: set(); "
    )
    keeper._START = keeper._START.replace("from singd", only + "from singd", 1)


def main() -> int:
    """Plant the bug that the first argument names, then be singd."""
    name = sys.argv.pop(1)
    BUGS[name]()
    from singd.cli.main import main as singd

    return singd()


if __name__ == "__main__":
    sys.path.pop(0)  # this directory: its modules are the harness's
    sys.exit(main())
