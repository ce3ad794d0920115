"""What a plugin's tests may import: run a task as the worker would, against a private Postgres.

    from singd.testing import migrate, postgres, run_task

    def test_it_counts(tmp_path):
        with postgres() as server:
            database = server.create("singularity")
            migrate(my_task, {"singularity": database})
            result = run_task(my_task, {"path": tmp_path}, databases={"singularity": database})
        assert result["files"] == 0

The roles are those of an embedded database: the task changes rows as a role that owns nothing, migrations run as the
owner. So a task that would lack a right in production lacks it here. Needs the extra `singd[embedded]`.
"""

from __future__ import annotations

from singd.testing.run import migrate, run_task
from singd.testing.server import PostgresServer, ScratchDatabase, postgres

__all__ = ["PostgresServer", "ScratchDatabase", "migrate", "postgres", "run_task"]
