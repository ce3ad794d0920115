"""Numbered migrations, applied once each, in one transaction, under a lock.

    migrations/0001_ledger.sql …  ─▶  schema_version(version, name, checksum)

A file that was applied never changes (its checksum is compared), and two daemons that start together apply nothing
twice. While nodes are upgraded one by one, the first new one brings the schema forward under the old ones: the first
line of a migration says which programs may go on, by the newest migration they know:

    -- works with programs from version 1 on

Without that line only programs that have the migration may; a program that may not is refused by name. Files are written for any schema:
`@schema@` stands for its quoted name. Nothing cluster-wide is created: roles are the operator's, and are
given only what they need by `grants`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import psycopg
import trio
from psycopg import sql as quoting

from singd.edges.postgres.failure import PostgresError, translate
from singd.edges.postgres.keys import migration_key
from singd.edges.postgres.pool import SESSION, checked_schema, connect
from singd.edges.postgres.wire import TrioConnection
from singd.errors import EdgeError

MINIMUM_SERVER = 140000
"""PostgreSQL 14: the first with idle_session_timeout and client_connection_check_interval."""

LIMIT_S = 600.0
"""Seconds for all migrations together, waiting for another migrating daemon included."""

_MIGRATING = {**SESSION, "statement_timeout": "300s", "lock_timeout": "60s"}

_VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""

_WORKS_FROM = "ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS works_from integer"
"""Null = from its own version on. Not part of the table from the first, so whoever reads it must do without."""

_RECORD = "INSERT INTO schema_version (version, name, checksum, works_from) VALUES ({}, {}, {}, {})"

_READ = (
    "SELECT version, checksum, coalesce((to_jsonb(v) ->> 'works_from')::int, version) FROM schema_version v"
)

_WORKS = re.compile(r"-- works with programs from version (\d+) on\n")

RIGHTS = {
    "SELECT": ["schema_version", "live_node"],
    "SELECT, UPDATE": ["leader", "leader_beat"],
    "SELECT, INSERT": ["audit_event"],
    "SELECT, INSERT, UPDATE": ["node", "generation", "cursor", "retention"],
    "SELECT, INSERT, DELETE": ["term"],
    "SELECT, INSERT, UPDATE, DELETE": ["occurrence", "attempt", "attempt_log", "override"],
}
"""What the runtime role may do; DELETE only where retention needs it (S9)."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def works_from(self) -> int:
        """The newest migration that a program must know, at least, to work on a schema that has this one."""
        said = _WORKS.match(self.text)
        return int(said[1]) if said else self.version


@dataclass(frozen=True, slots=True)
class _Applied:
    """A migration that the schema has."""

    checksum: str
    works_from: int


def migrations() -> Sequence[Migration]:
    """The ledger's own, in order; numbered from 1 without a gap."""
    folder = resources.files("singd.edges.postgres") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    found = [Migration(int(f.name[:4]), f.name.removesuffix(".sql"), f.read_text("utf-8")) for f in files]
    assert [m.version for m in found] == list(range(1, len(found) + 1)), "migrations are numbered from 1"
    return found


def sql(schema: str = "singd", runtime_role: str | None = None) -> str:
    """Everything that `migrate` would run on an empty database, for an administrator's psql."""
    name = _quoted(schema)
    parts = [
        f"BEGIN;\nCREATE SCHEMA IF NOT EXISTS {name};\nSET LOCAL search_path = {name}, pg_temp;",
        f"{_VERSIONS};",
        f"{_WORKS_FROM};",
    ]
    for m in migrations():
        parts.append(f"-- {m.name}.sql\n{_text(m, schema)}")
        parts.append(_RECORD.format(m.version, f"'{m.name}'", f"'{m.checksum}'", m.works_from) + ";")
    parts += [f"{grant};" for grant in grants(schema, runtime_role)]
    return "\n\n".join([*parts, "COMMIT;\n"])


def grants(schema: str, runtime_role: str | None) -> Iterable[str]:
    """The statements that give `runtime_role` what a daemon needs, and nothing else."""
    if runtime_role is None:
        return
    name, role = _quoted(schema), _quoted_role(runtime_role)
    yield f"GRANT USAGE ON SCHEMA {name} TO {role}"
    for rights, tables in RIGHTS.items():
        yield f"GRANT {rights} ON {', '.join(f'{name}.{table}' for table in tables)} TO {role}"
    yield f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {name} TO {role}"
    yield f"GRANT EXECUTE ON FUNCTION {name}.wait_for_lock(bigint), {name}.finish(uuid, jsonb) TO {role}"


async def migrate(conninfo: str, schema: str = "singd", runtime_role: str | None = None) -> Sequence[str]:
    """Apply what is missing.

    Args:
        conninfo: A login that may create in the database (or owns the schema).
        runtime_role: Role to grant the daemon's rights to; it must exist.

    Returns:
        The names of the migrations applied now.

    Raises:
        EdgeError: The server is too old, the schema is newer than this program, a file was changed after
            it had been applied, or Postgres refused.
    """
    checked_schema(schema)
    try:
        with trio.fail_after(LIMIT_S):
            connection = await connect(conninfo, schema, "migrate", _MIGRATING)
            try:
                async with connection.transaction():
                    return await _apply(connection, schema, runtime_role)
            finally:
                connection.drop()
    except psycopg.Error as error:
        raise translate(error, f"migrating schema {schema}") from error
    except trio.TooSlowError:
        raise PostgresError(f"migrating schema {schema}: not done within {LIMIT_S:.0f} s") from None


async def require_current(connection: TrioConnection, schema: str) -> None:
    """Refuse a schema that this program does not work with.

    Raises:
        EdgeError: Nothing is there, it lacks migrations, or it is newer and its migrations leave older programs behind.
    """
    known = migrations()
    applied = await _applied(connection, schema)
    at = max(applied, default=0)
    if at == 0:
        raise EdgeError(f"schema {schema} holds no ledger", cure="run `singd db migrate`")
    if at < len(known):
        missing = ", ".join(m.name for m in known[at:])
        raise EdgeError(f"schema {schema} lacks migrations: {missing}", cure="run `singd db migrate`")
    _refuse_too_new(applied, schema)


async def _apply(connection: TrioConnection, schema: str, runtime_role: str | None) -> Sequence[str]:
    if connection.info.server_version < MINIMUM_SERVER:
        version = connection.info.server_version // 10000
        raise EdgeError(f"PostgreSQL {version} is too old", cure="use PostgreSQL 14 or newer")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (migration_key(schema),))
    applied = await _applied(connection, schema)
    _refuse_too_new(applied, schema)
    missing = [m for m in migrations() if not _known(m, applied)]
    if missing:
        await _prepare(connection, schema)
    for m in missing:
        await connection.execute(_text(m, schema).encode())
        await connection.execute(
            _RECORD.format("%s", "%s", "%s", "%s").encode(), (m.version, m.name, m.checksum, m.works_from)
        )
    for grant in grants(schema, runtime_role):
        await connection.execute(grant.encode())
    return [m.name for m in missing]


async def _applied(connection: TrioConnection, schema: str) -> dict[int, _Applied]:
    there = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.schema_version",))
    if not (await there.fetchone() or (False,))[0]:
        return {}
    rows = await connection.execute(_READ)
    return {version: _Applied(checksum, works) for version, checksum, works in await rows.fetchall()}


async def _prepare(connection: TrioConnection, schema: str) -> None:
    # IF NOT EXISTS needs the right to create even where the schema exists, which its owner may not have.
    found = await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    if await found.fetchone() is None:
        await connection.execute(f"CREATE SCHEMA {_quoted(schema)}".encode())
    await connection.execute(_VERSIONS.encode())
    await connection.execute(_WORKS_FROM.encode())


def _known(migration: Migration, applied: Mapping[int, _Applied]) -> bool:
    there = applied.get(migration.version)
    if there is not None and there.checksum != migration.checksum:
        raise EdgeError(
            f"migration {migration.name} was changed after it had been applied",
            cure="install the singd that made this schema, or restore the file",
        )
    return there is not None


def _refuse_too_new(applied: Mapping[int, _Applied], schema: str) -> None:
    known, at = len(migrations()), max(applied, default=0)
    needed = max((one.works_from for version, one in applied.items() if version > known), default=0)
    if needed > known:
        raise EdgeError(
            f"schema {schema} is at version {at}, for programs that know versions up to {needed} at least; "
            f"this singd knows versions up to {known}",
            cure="upgrade singd on this node",
        )


def _text(migration: Migration, schema: str) -> str:
    return migration.text.replace("@schema@", _quoted(schema))


def _quoted(schema: str) -> str:
    return f'"{checked_schema(schema)}"'


def _quoted_role(role: str) -> str:
    return quoting.Identifier(role).as_string(None)
