"""The journal's file: one SQLite database, one writer, every transaction on the disk before it is answered.

    missing ──▶ made        sound ──▶ used        damaged ──▶ set aside, a new one made: the daemon starts anyway
            removed in use ──▶ an error once, a new one made      newer format ──▶ refused: an older singd would not
                                                                  understand it

Calls run in a thread, one at a time; each is one transaction. That this daemon alone writes is what the lock
of the state directory says. After any failure the connection is closed: the next call looks at the file anew,
and one that turned out to be damaged while in use is set aside then.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import trio

from singd.edges.local.statements import statement
from singd.errors import EdgeError
from singd.ports import Clock

T = TypeVar("T")
Body = Callable[[sqlite3.Connection], T]

FORMAT = 1
MARK = 0x53474A31
"""SQLite's application_id: this is a local journal."""
NUMBERS_SINCE, NUMBERS_PER_S = datetime(2026, 1, 1, tzinfo=UTC), 10
"""A new journal's first number is the time since then in tenths of a second: no journal records ten rows a second through its whole life."""
KEPT_ASIDE = 3
"""Damaged files that are kept; the oldest goes first."""
BUSY_S = 5.0
"""Something else reads or copies the file: how long it is waited for."""

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "journal_size_limit = 8388608",
)
_FILES = ("-wal", "-shm", "")
"""The journal and what SQLite keeps beside it, in an order in which a part of them does no harm."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ROOM = "make room on the disk of the state directory"
_WRITE = "let the daemon's user write to the state directory"
_CURES = {
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_IOERR: "look at the disk of the state directory: the system log says what is wrong with it",
    sqlite3.SQLITE_READONLY: _WRITE,
    sqlite3.SQLITE_CANTOPEN: _WRITE,
    sqlite3.SQLITE_PERM: _WRITE,
    sqlite3.SQLITE_BUSY: "end the program that holds the file locked",
    sqlite3.SQLITE_LOCKED: "end the program that holds the file locked",
    sqlite3.SQLITE_PROTOCOL: "keep the state directory on a local disk",
    sqlite3.SQLITE_NOMEM: "give the machine more memory",
    sqlite3.SQLITE_INTERRUPT: "",
}
"""What the environment did wrong, by SQLite's primary code, and what ends it; any other code is our own bug."""


_NEW = "a new one begins from now; what had not been shipped is lost"
Identity = tuple[int, int] | None
"""Device and inode; None = no file."""


class Damaged(Exception):
    """The file is not what we wrote."""


class JournalFile:
    """Runs transactions on the file.

    Attributes:
        set_aside: Where the last damaged file was put; None = there was none in this process's life.
        tell: Given the news that a new journal took the place of one, which then is over for good.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self._clock = clock
        self._one = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._damage: Damaged | None = None
        self._used: Mapping[str, Identity] = {}
        self._news = ""
        self.tell: Callable[[str], None] = lambda news: None

    async def transact(self, doing: str, body: Body[T]) -> T:
        """What `body` answers, committed; nothing is, if it raises.

        Raises:
            EdgeError: The disk is full or fails, or the file is damaged or of a newer singd.
        """
        try:
            return await trio.to_thread.run_sync(self._transact, doing, body, limiter=self._one)
        finally:
            news, self._news = self._news, ""
            if news:
                self.tell(news)

    def close(self) -> None:
        """Let the file go; a later call opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # what was committed is on the disk already
                connection.close()

    def _transact(self, doing: str, body: Body[T]) -> T:
        try:
            connection = self._open()
            with _transaction(connection):
                return body(connection)
        except sqlite3.Error as error:
            self.close()
            if _code(error) in _DAMAGED:
                self._damage = Damaged(str(error))
            raise _translated(error, doing, self.path) from error

    def _open(self) -> sqlite3.Connection:
        self._still_there()
        if self._connection is None:
            try:
                self._connection = self._sound()
            except Damaged as damage:
                self.set_aside = _set_aside(self.path, self._clock.now(), damage)
                self._news = (
                    f"the local journal was damaged: it is set aside as {self.set_aside}, a new one begins"
                )
                self._damage, self._used = None, {}
                self._connection = _connect(self.path, self._clock.now())
            self._used = _identities(self.path)
        return self._connection

    def _still_there(self) -> None:
        """Raises EdgeError, once, where the path no longer leads to the file that was used: nobody would find it again."""
        now = _identities(self.path)
        if not self._used or now[""] == self._used[""]:
            return
        if self._connection is not None:
            _orphaned(self.path, self._used, now)
        self.close()
        self._used = {}
        self._news = f"the local journal was removed under the daemon; {_NEW}"
        raise EdgeError(
            f"the local journal {self.path} was removed under the daemon", cure=f"nothing: {_NEW}"
        )

    def _sound(self) -> sqlite3.Connection:
        """Raises Damaged also where the file had turned out so while in use: a check may not see what a write met."""
        if self._damage is not None:
            raise self._damage
        return _connect(self.path, self._clock.now())


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself where the disk fails
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _connect(path: Path, now: datetime) -> sqlite3.Connection:
    new = _make(path)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if not new:
            _check(connection)
        else:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if new:
            _create(connection, _first_number(now))
    except BaseException as error:
        connection.close()
        if new:  # an empty one would be taken for damage
            _unlink(path)
        if isinstance(error, sqlite3.Error) and _code(error) in _DAMAGED:
            raise Damaged(str(error)) from error
        raise
    return connection


def _identities(path: Path) -> Mapping[str, Identity]:
    return {beside: _identity(f"{path}{beside}") for beside in _FILES}


def _orphaned(path: Path, used: Mapping[str, Identity], now: Mapping[str, Identity]) -> None:
    """Delete what stayed beside a file that is gone: SQLite would write it into the next, as if it were that one's."""
    for beside in _FILES[:2]:
        if now[beside] is not None and now[beside] == used[beside]:
            with suppress(OSError):  # a directory that refuses it is told by the attempt to make the next
                os.unlink(f"{path}{beside}")


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:  # why it cannot be reached is told by the attempt to open it
        return None
    return found.st_dev, found.st_ino


def _make(path: Path) -> bool:
    """Whether the file is made here; readable by its owner alone, as are the files that SQLite puts beside it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        for beside in _FILES[:2]:  # of a file that is gone: not this one's
            Path(f"{path}{beside}").unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise EdgeError(f"the local journal {path} cannot be made: {error.strerror}", cure=_WRITE) from error
    return True


def _check(connection: sqlite3.Connection) -> None:
    [mark] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if mark != MARK:
        raise Damaged("it is empty, or no local journal")
    if version > FORMAT:
        raise EdgeError(
            f"the local journal is of format {version}, this singd knows formats up to {FORMAT}",
            cure="install the singd that wrote it, or a newer one",
        )
    [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(verdict)


def _first_number(now: datetime) -> int:
    """Above those of the journals before it, so that a run id names one run; ten digits are enough until 2057."""
    return max(int((now - NUMBERS_SINCE).total_seconds() * NUMBERS_PER_S), 0) + 1


def _create(connection: sqlite3.Connection, first: int) -> None:
    connection.executescript(f"BEGIN IMMEDIATE; {statement('journal')}")
    connection.execute("INSERT INTO fact (name, value) VALUES ('origin', ?)", (str(uuid4()),))
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('occurrence', ?)", (first - 1,))
    connection.execute(f"PRAGMA application_id = {MARK}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _set_aside(path: Path, now: datetime, damage: Damaged) -> Path:
    """Rename the file and what SQLite keeps beside it; of earlier ones the newest stay."""
    aside = path.with_name(f"{path.name}.damaged-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        for beside in _FILES:
            source = path.with_name(path.name + beside)
            if source.exists():
                source.rename(f"{aside}{beside}")
        earlier = sorted(path.parent.glob(f"{path.name}.damaged-*Z"), reverse=True)
        for old in earlier[KEPT_ASIDE:]:
            _unlink(old)
    except OSError as error:
        raise EdgeError(
            f"the local journal {path} is damaged ({damage}) and cannot be set aside: {error.strerror}",
            cure=_WRITE,
        ) from error
    return aside


def _unlink(path: Path) -> None:
    for beside in _FILES:
        Path(f"{path}{beside}").unlink(missing_ok=True)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where Python raised the error by itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _translated(error: sqlite3.Error, doing: str, path: Path) -> Exception:
    code = _code(error)
    if code in _DAMAGED:
        return EdgeError(
            f"{doing}: the local journal {path} is damaged ({error})",
            cure="nothing: it is set aside, and a new one begins",
        )
    if code in _CURES:
        return EdgeError(f"{doing}: the local journal {path}: {error}", cure=_CURES[code])
    return error
