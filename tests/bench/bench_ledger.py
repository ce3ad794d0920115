"""The ledger in batches: what a round of planning, starting and finishing costs, on a private Postgres 18.

One JSON line a figure, in milliseconds: the best and the median wall time of the rounds, and the CPU time of
client and server in one round (the machine's other work moves the first two, hardly the third and fourth).
`fsync` is on. Every recording is an occurrence with its first attempt and its schedule's cursor.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.postgres import BINARIES, RUNTIME, Server, running

from singd.core.values import Finish, Occurrence, Recording, State, Verdict
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.migrate import migrate
from singd.edges.postgres.pool import Pool
from singd.ports import NodeInfo, Term

START = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = 5_000
ROUNDS = 7
BEATS = 1_000


class Meter:
    """Wall and CPU time of steps, by name."""

    def __init__(self, backends: list[int]) -> None:
        self._backends = backends
        self._samples: dict[str, list[tuple[float, float, float]]] = {}

    async def measure(self, name: str, step: Callable[[], Awaitable[Any]]) -> Any:
        """Run one step and note what it took."""
        client, server, wall = process_time(), self._server_s(), perf_counter()
        result = await step()
        taken = (perf_counter() - wall, process_time() - client, self._server_s() - server)
        self._samples.setdefault(name, []).append(taken)
        return result

    def report(self, **labels: object) -> None:
        """One line a name."""
        for name, samples in self._samples.items():
            wall, client, server = (sorted(column) for column in zip(*samples, strict=True))
            figures = {
                "best_ms": wall[0], "median_ms": statistics.median(wall),
                "client_cpu_ms": statistics.median(client), "server_cpu_ms": statistics.mean(server),
            }  # fmt: skip
            rounded = {key: round(value * 1000, 3) for key, value in figures.items()}
            print(json.dumps({"figure": name, "system": "singd", **labels, **rounded}), flush=True)

    def _server_s(self) -> float:
        return sum(_cpu_s(pid) for pid in self._backends)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def batches(server: Server, size: int, term: Term, pool: Pool) -> None:
    """Rounds of record, start, beat and finish."""
    ledger, meter = PostgresLedger(pool), Meter([await _backend(pool)])
    for turn in range(ROUNDS):
        due_at = START + timedelta(minutes=turn, days=size)
        recordings = [
            Recording(Occurrence(f"schedule_{n}", due_at), "command", Verdict.RAN, open_attempt=True)
            for n in range(size)
        ]
        cursors = {r.occurrence.schedule: due_at for r in recordings}
        answers = await meter.measure("ledger_record", lambda: ledger.record(term, 1, recordings, cursors))  # noqa: B023
        tokens = [answer.attempt.token for answer in answers][:TOKENS]
        ends = [Finish(token, State.SUCCEEDED) for token in tokens]
        for name, step in {
            "ledger_start": lambda: ledger.start(tokens),  # noqa: B023
            "ledger_beat": lambda: ledger.beat(tokens),  # noqa: B023
            "ledger_finish": lambda: ledger.finish(ends),  # noqa: B023
        }.items():
            assert len(await meter.measure(name, step)) == len(tokens)
    meter.report(recorded=size, tokens=min(size, TOKENS))


async def beats(election: PostgresElection, term: Term, pool: Pool, leader: int) -> None:
    """What a heartbeat costs; there is one a second."""
    meter = Meter([leader])

    async def many() -> None:
        for _ in range(BEATS):
            await election.beat(term)

    for _ in range(3):
        await meter.measure(f"ledger_{BEATS}_heartbeats", many)
    meter.report()


async def _backend(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


async def bench(server: Server) -> None:
    """All figures on one ledger that grows as they are taken."""
    await migrate(server.conninfo(), runtime_role=RUNTIME)
    conninfo = server.conninfo(user=RUNTIME)
    election = PostgresElection(conninfo)
    await election.open(NodeInfo("bench", uuid.uuid4()))
    term = await election.campaign()
    async with Pool(conninfo) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(_keep_beating, election, term)
        for size in (1, 100, 1_000, 10_000):
            await batches(server, size, term, pool)
        nursery.cancel_scope.cancel()
    await election.open(NodeInfo("bench", uuid.uuid4()))
    term = await election.campaign()
    leader = int(str(server.execute("SELECT backend_pid FROM singd.leader")[0][0]))
    await beats(election, term, pool, leader)
    await election.close()


async def _keep_beating(election: PostgresElection, term: Term) -> None:
    while True:
        await election.beat(term)
        await trio.sleep(1)


def main() -> None:
    with running(BINARIES["pg18"], fsync="on", shared_buffers="128MB") as server:
        trio.run(bench, server)


if __name__ == "__main__":
    main()
