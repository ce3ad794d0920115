"""Where the configuration's databases are: the embedded server's, or by URL with secrets resolved."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from singd.core.config import EMBEDDED, Config, Database, LedgerDatabase
from singd.edges.config_files import conninfo
from singd.edges.embedded.postgres import EmbeddedPostgres
from singd.errors import EdgeError
from singd.ports import Keeper

LEDGER = "ledger"
"""What a backup task calls the ledger's own database."""
EMBEDDED_LEDGER = "singd"
"""The ledger's database in the embedded server."""
RUNTIME_ROLE = "singd_runtime"


class Databases:
    """Connection strings of the ledger and of the named databases; credentials in them: never log one.

    Attributes:
        server: The embedded server, once it was started.
    """

    def __init__(self, config: Config) -> None:
        self._ledger = config.database
        self._named = config.databases
        self.server: EmbeddedPostgres | None = None

    async def start_server(self, keeper: Keeper, state_dir: Path) -> EmbeddedPostgres | None:
        """Bring up the embedded server if any database needs it.

        Raises:
            EdgeError, ConfigError, KeeperGone: As `EmbeddedPostgres.start`.
        """
        names = [name for name, database in self._named.items() if database.url == EMBEDDED]
        if names or self.ledger_embedded:
            self.server = await EmbeddedPostgres.start(keeper, state_dir, names, ledger=EMBEDDED_LEDGER)
        return self.server

    @property
    def ledger_embedded(self) -> bool:
        """Whether the ledger is in the embedded server."""
        return self._ledger.url == EMBEDDED

    @property
    def runtime_role(self) -> str | None:
        """The role that migrations grant the ledger's rights to; None = the login owns it."""
        return RUNTIME_ROLE if self.ledger_embedded else None

    def ledger(self, role: str) -> str:
        """The ledger's conninfo.

        Args:
            role: runtime, migrator or backup; by URL there is one login for all.
        """
        return self._resolve(EMBEDDED_LEDGER, self._ledger, role)

    def conninfo(self, name: str, role: str) -> str:
        """A named database's conninfo for task, backup or migrator (a `provide.Conninfo`).

        Raises:
            EdgeError: There is no such database, or it may not be given to this role.
            ConfigError: A secret cannot be resolved.
        """
        if name == LEDGER and role == "backup":
            return self.ledger(role)
        if name not in self._named:
            raise EdgeError(f"there is no database {name!r}", cure=f"add [databases.{name}]")
        return self._resolve(name, self._named[name], role)

    def describe(self) -> str:
        """Where the ledger is, for people, without credentials."""
        if self.ledger_embedded:
            return self.server.describe() if self.server else "embedded PostgreSQL, not started yet"
        url = self._ledger.url
        if not isinstance(url, str):
            return f"PostgreSQL at {url}"
        parts = urlsplit(url)
        host = unquote(parts.hostname or "the local socket")
        return f"PostgreSQL at {host}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def _resolve(self, name: str, database: Database | LedgerDatabase, role: str) -> str:
        if database.url == EMBEDDED:
            if self.server is None:
                raise EdgeError("the embedded Postgres is not running")
            return self.server.conninfo(name, role)
        return conninfo(database.url, database.password)
