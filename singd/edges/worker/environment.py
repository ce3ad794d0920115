"""How workers and commands are started: their command line, and what they inherit of the daemon's environment (S3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from singd.core.values import Work
from singd.edges.worker import leftovers

ALLOWED = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", leftovers.VARIABLE})
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def allowed(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children may see."""
    kept = {name: value for name, value in environ.items() if name in ALLOWED or name.startswith("LC_")}
    return {"PATH": DEFAULT_PATH, **kept}


def of_command(work: Work, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a plain program."""
    return allowed(environ) | {
        "SINGD_SCHEDULE": work.schedule,
        "SINGD_DUE_AT": work.attempt.occurrence.due_at.isoformat().replace("+00:00", "Z"),
        "SINGD_ATTEMPT": str(work.attempt.number),
        "SINGD_RUN": work.attempt.run_id,
        "SINGD_EPOCH": str(work.attempt.epoch),
        "SINGD_IDEMPOTENCY_KEY": work.idempotency_key,
    }


def worker_argv(title: str) -> tuple[str, ...]:
    """The command line of a worker; `title` is for people who read `ps`."""
    start = "from singd.edges.worker.worker_main import main; main()"
    return (sys.executable, "-I", "-c", start, title)
