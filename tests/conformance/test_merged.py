"""The ledger and the local journal read as one, with the twin of the one and the file of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from singd.core.values import CLUSTER, Finish, Log, Occurrence, Recording, State, Verdict
from singd.edges.clock import SystemClock
from singd.edges.local.ledger import LocalLedger
from singd.edges.local.reader import LocalReader
from singd.edges.memory import Link, MemoryDatabase, MemoryReader
from singd.edges.memory.intake import MemoryIntake
from singd.errors import EdgeError
from singd.merged import Merged
from singd.ports import NodeInfo, Term
from singd.views import PartialAnswer

from .conftest import MINUTE, NOON

NODE = NodeInfo("here", uuid4())
TERM = Term(0)


@dataclass
class Both:
    """A node's journal, and a ledger that a partition (`link`) can hide."""

    local: LocalLedger
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    link: Link = field(default_factory=Link)

    @property
    def view(self) -> Merged:
        return Merged(
            MemoryReader(self.database, self.link), LocalReader(self.local), NODE.name, lambda: {"own"}
        )  # type: ignore[arg-type]

    async def run(self, minute: int, word: bytes = b"out", owner: NodeInfo = NODE) -> int:
        """The local number of a run of `own` that succeeded."""
        what = Occurrence("own", NOON + minute * MINUTE, owner.name)
        asked = Recording(what, "command", Verdict.RAN, open_attempt=True)
        [recorded] = await self.local.record(TERM, 1, [asked], {"own": what.due_at})
        assert recorded.attempt is not None
        assert recorded.occurrence_id is not None
        await self.local.finish([Finish(recorded.attempt.token, State.SUCCEEDED, log=Log(word))])
        return recorded.occurrence_id

    async def ship(self, *, forget: bool = False, node: NodeInfo = NODE) -> None:
        batch = await self.local.unshipped(99)
        assert await MemoryIntake(self.database).take_in(node, self.local.origin, batch) == set()
        await self.local.shipped([one.number for one in batch])
        if forget:
            await self.local.file.transact(
                "test", lambda connection: connection.execute("DELETE FROM occurrence WHERE shipped_at > 0")
            )


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    local = LocalLedger(tmp_path / "journal.db", NODE, SystemClock())
    yield Both(local)
    local.close()


async def test_a_run_is_listed_once_before_and_after_it_is_shipped(both: Both) -> None:
    first, second = await both.run(0), await both.run(1)
    expected = [f"here:{second}", f"here:{first}"]
    assert [row.run_id for row in await both.view.runs("own", None, 9)] == expected
    await both.ship()
    third = await both.run(2)
    for name in ("own", None):
        rows = await both.view.runs(name, None, 9)
        assert [row.run_id for row in rows] == [f"here:{third}", *expected]
    assert [row.run_id for row in await both.view.runs("own", None, 2)] == [f"here:{third}", f"here:{second}"]


async def test_a_run_and_its_output_are_found_by_one_id_wherever_they_are(both: Both) -> None:
    number = await both.run(0, b"words")
    for turn in ("journal", "both", "ledger"):
        if turn != "journal":
            await both.ship(forget=turn == "ledger")
        row = await both.view.node_run("here", number)
        assert row is not None, turn
        assert (row.run_id, row.outcome) == (f"here:{number}", State.SUCCEEDED)
        assert await both.view.log(row.occurrence_id, 1) == Log(b"words"), turn
        assert await both.view.run(row.occurrence_id) == row
        begun = await both.view.begun("own", NODE.name)
        assert begun is not None
        assert begun.run_id == row.run_id
        assert (await both.view.known("own", NOON, NODE.name)).row == row
    assert await both.view.node_run("there", number) is None


async def test_without_the_ledger_the_journal_answers_for_the_nodes_own(both: Both) -> None:
    number = await both.run(0)
    both.link.up = False
    view = both.view
    assert [row.run_id for row in await view.runs("own", None, 9)] == [f"here:{number}"]
    assert (await view.known("own", NOON, NODE.name)).row is not None
    assert (await view.known("own", NOON + MINUTE, NODE.name)).row is None
    assert await view.begun("own", NODE.name) is not None
    assert await view.node_run("here", number) is not None
    with pytest.raises(PartialAnswer) as partial:
        await view.latest()
    assert set(partial.value.answer) == {"own"}


async def test_without_the_ledger_nothing_is_said_of_what_only_it_knows(both: Both) -> None:
    await both.run(0)
    both.link.up = False
    for question in (
        both.view.runs(None, None, 9),
        both.view.runs("cluster's", None, 9),
        both.view.known("cluster's", NOON, CLUSTER),
        both.view.known("own", NOON - timedelta(days=2), NODE.name),
        both.view.begun("cluster's", CLUSTER),
        both.view.run(1),
    ):
        with pytest.raises(EdgeError):
            await question


async def test_what_the_journal_forgot_the_ledger_tells(both: Both) -> None:
    await both.run(0)
    await both.ship(forget=True)
    await both.run(5)
    known = await both.view.known("own", NOON, NODE.name)
    assert known.row is not None
    assert known.row.occurrence_id > 0
    assert (known.cursor, known.oldest) == (NOON + 5 * MINUTE, NOON)
    assert (await both.view.latest())["own"].due_at == NOON + 5 * MINUTE


async def test_what_another_node_ran_is_not_told_as_this_nodes(both: Both, tmp_path: Path) -> None:
    other = NodeInfo("there", uuid4())
    local = LocalLedger(tmp_path / "there.db", other, SystemClock())
    theirs = Both(local, both.database)
    await theirs.run(0, owner=other)
    await theirs.ship(node=other)
    await both.run(5)
    known = await both.view.known("own", NOON, NODE.name)
    assert (known.row, known.oldest) == (None, NOON + 5 * MINUTE)
    begun = await both.view.begun("own", NODE.name)
    assert begun is not None
    assert begun.owner == NODE.name
    await theirs.run(9, owner=other)
    await theirs.ship(node=other)
    assert await both.view.begun("own", NODE.name) == begun
    assert (await both.view.latest())["own"].owner == NODE.name
    local.close()


async def test_a_node_that_ran_nothing_yet_has_no_latest_run_of_another(both: Both, tmp_path: Path) -> None:
    other = NodeInfo("there", uuid4())
    theirs = Both(LocalLedger(tmp_path / "there.db", other, SystemClock()), both.database)
    await theirs.run(0, owner=other)
    await theirs.ship(node=other)
    theirs.local.close()
    assert await both.view.latest() == {}
    assert await both.view.begun("own", NODE.name) is None
