"""Roles, databases and extensions, brought to the wanted state at every start. Blocking: run in a thread.

| role | may |
|---|---|
| singd_admin | everything; used here only |
| singd_migrator | make and own objects in the ledger and the named databases |
| singd_runtime | log in to the ledger; rights on its tables come from the ledger's migrations |
| singd_task | log in to named databases; read and change rows of what the migrator makes; make nothing |
| singd_backup | read everything, make scratch databases |

PUBLIC may connect nowhere. `template1` carries the extensions, which only the admin may create, so that
a scratch database made by the backup role can take a dump that has them. The ledger has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import psycopg
from psycopg import sql

ADMIN, MIGRATOR, RUNTIME, TASK, BACKUP = (
    "singd_admin", "singd_migrator", "singd_runtime", "singd_task", "singd_backup",
)  # fmt: skip
ROLES: Mapping[str, str] = {
    "admin": ADMIN, "migrator": MIGRATOR, "runtime": RUNTIME, "task": TASK, "backup": BACKUP,
}  # fmt: skip
"""The short names that callers use -> the login."""

ATTRIBUTES: Mapping[str, str] = {
    MIGRATOR: "NOCREATEDB CONNECTION LIMIT 10",
    RUNTIME: "NOCREATEDB CONNECTION LIMIT 20",
    TASK: "NOCREATEDB CONNECTION LIMIT 30",
    BACKUP: "CREATEDB CONNECTION LIMIT 10",
}
"""Beyond the common ones. The limits add up to more than max_connections on purpose: each alone leaves room."""

EVERY_DATABASE = f"""
    REVOKE ALL ON DATABASE {{db}} FROM PUBLIC;
    GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {{db}} TO {MIGRATOR};
    GRANT CONNECT ON DATABASE {{db}} TO {BACKUP};
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    GRANT USAGE, CREATE ON SCHEMA public TO {MIGRATOR}
"""
LEDGER = f"GRANT CONNECT ON DATABASE {{db}} TO {RUNTIME}"
NAMED = f"""
    GRANT CONNECT ON DATABASE {{db}} TO {TASK};
    GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {MIGRATOR};
    ALTER DEFAULT PRIVILEGES FOR ROLE {MIGRATOR} GRANT USAGE ON SCHEMAS TO {TASK};
    ALTER DEFAULT PRIVILEGES FOR ROLE {MIGRATOR} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {TASK};
    ALTER DEFAULT PRIVILEGES FOR ROLE {MIGRATOR} GRANT USAGE, SELECT ON SEQUENCES TO {TASK};
    ALTER DEFAULT PRIVILEGES FOR ROLE {MIGRATOR} GRANT EXECUTE ON ROUTINES TO {TASK}
"""
EXTENSIONS = """
    CREATE EXTENSION IF NOT EXISTS vector;
    ALTER EXTENSION vector UPDATE;
    CREATE EXTENSION IF NOT EXISTS postgres_fdw;
    ALTER EXTENSION postgres_fdw UPDATE
"""
TEMPLATE = "REVOKE ALL ON DATABASE {db} FROM PUBLIC"
MAINTENANCE = f"REVOKE ALL ON DATABASE {{db}} FROM PUBLIC; GRANT CONNECT ON DATABASE {{db}} TO {BACKUP}"

Connection = psycopg.Connection[tuple[object, ...]]


def set_up(
    conninfo: Callable[[str], str], ledger: str, databases: Sequence[str], passwords: Mapping[str, str]
) -> None:
    """Make what is missing, correct what differs, remove nothing.

    Args:
        conninfo: Database name -> the admin's conninfo for it.
        ledger: The ledger's database.
        databases: The named databases.
        passwords: Login -> password.

    Raises:
        psycopg.Error: The server refused or went away.
    """
    with _connect(conninfo("template1")) as connection:
        _run(connection, "template1", EXTENSIONS, TEMPLATE)
    with _connect(conninfo("postgres")) as connection:
        for login, attributes in ATTRIBUTES.items():
            _role(connection, login, attributes, passwords[login])
        connection.execute(f"GRANT pg_read_all_data TO {BACKUP}")
        _run(connection, "postgres", MAINTENANCE)
        _databases(connection, {ledger: "template0"} | dict.fromkeys(databases, "template1"))
    with _connect(conninfo(ledger)) as connection:
        _run(connection, ledger, EVERY_DATABASE, LEDGER)
    for name in databases:
        with _connect(conninfo(name)) as connection:
            _run(connection, name, EVERY_DATABASE, EXTENSIONS, NAMED)


def refusal(conninfo: str) -> str | None:
    """Log in once.

    Returns:
        None if that works, else the reason it does not.
    """
    try:
        with _connect(conninfo) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return str(error)
    return None


def _connect(conninfo: str) -> Connection:
    options = "-c statement_timeout=60s -c lock_timeout=30s -c client_min_messages=warning"
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=10, options=options)


def _run(connection: Connection, database: str, *texts: str) -> None:
    with connection.transaction():
        for text in texts:
            connection.execute(sql.SQL(text).format(db=sql.Identifier(database)))


def _role(connection: Connection, login: str, attributes: str, password: str) -> None:
    """The server is sent a SCRAM verifier, never the password."""
    name = sql.Identifier(login)
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [login]).rowcount:
        connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    verifier = connection.pgconn.encrypt_password(
        password.encode(), login.encode(), b"scram-sha-256"
    ).decode()
    common = "LOGIN NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS "
    alter = sql.SQL("ALTER ROLE {} WITH " + common + attributes + " PASSWORD {}")
    connection.execute(alter.format(name, sql.Literal(verifier)))


def _databases(connection: Connection, wanted: Mapping[str, str]) -> None:
    there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    for name, template in wanted.items():
        if name not in there:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
            connection.execute(create)
