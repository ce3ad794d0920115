"""What a plugin's tests may import: run a task as the worker would, against a private Postgres; simulate a cluster.

    from singd.testing import migrate, postgres, run_task

    def test_it_counts(tmp_path):
        with postgres() as server:
            database = server.create("singularity")
            migrate(my_task, {"singularity": database})
            result = run_task(my_task, {"path": tmp_path}, databases={"singularity": database})
        assert result["files"] == 0

The roles are those of an embedded database: the task changes rows as a role that owns nothing, migrations run as the
owner. So a task that would lack a right in production lacks it here. Needs the extra `singd[embedded]`.

    from singd.testing import Body, Cron, Faults, SimulatedCluster, schedule, simulate

    def test_the_report_is_never_made_twice():
        report = schedule("report", Cron.parse("0 * * * *"), grace=timedelta(minutes=5))
        cluster = SimulatedCluster([report], {"report": Body(seconds=90)}, nodes=3, seed=7)
        history = simulate(cluster, days=2, faults=Faults(per_day=50))
        assert not history.violations()
        print(history.verdicts("report"))

A simulated cluster is the real scheduler on a clock of its own: what schedules with these triggers and policies would do
for days, under kills, freezes, partitions and false clocks, is known in seconds. Nothing of a plugin runs in it: bodies
are scripts. The same seed is the same history.
"""

from __future__ import annotations

from singd.core.cron import Cron
from singd.core.values import At, CatchUp, Delivery, Every, Overlap, Scope, Startup, State
from singd.testing.cluster import SimulatedCluster, schedule
from singd.testing.faults import KINDS, Faults
from singd.testing.history import History
from singd.testing.machine import HANGS, Begun, Body
from singd.testing.run import migrate, run_task
from singd.testing.server import PostgresServer, ScratchDatabase, postgres
from singd.testing.simulate import simulate

__all__ = [
    "HANGS", "KINDS", "At", "Begun", "Body", "CatchUp", "Cron", "Delivery", "Every", "Faults", "History", "Overlap",
    "PostgresServer", "Scope", "ScratchDatabase", "SimulatedCluster", "Startup", "State", "migrate", "postgres",
    "run_task", "schedule", "simulate",
]  # fmt: skip
