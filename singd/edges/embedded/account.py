"""As whom the server runs. Postgres refuses to run as root, so root lends it an account that exists.

No account is made and no directory of anybody else is changed: where the account cannot pass, that is
an error that names the directory. Whether it can is found out by trying as that account, in a short child,
because modes tell only half (ACLs, capabilities, mount options).
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from singd.edges.embedded.binaries import Binaries, copied
from singd.edges.embedded.child import run
from singd.edges.embedded.home import Home
from singd.errors import EdgeError, KeeperGone
from singd.ports import Keeper

CANDIDATES = ("singd", "postgres", "nobody")
OVERRIDE = "SINGD_POSTGRES_USER"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this host; `lent` is the (uid, gid) to become, None if the daemon has it already."""

    name: str
    uid: int
    lent: tuple[int, int] | None


def choose(
    home: Home,
    environ: Mapping[str, str] = os.environ,
    lookup: Callable[[str], pwd.struct_passwd] = pwd.getpwnam,
) -> Account:
    """The account for this home's server.

    For an ordinary user: itself. As root: `SINGD_POSTGRES_USER` if set, else the owner of data that is there,
    else the first of singd, postgres, nobody that exists.

    Raises:
        EdgeError: There is none, or the data belongs to another.
    """
    owner = home.data.lstat().st_uid if home.data.exists() else None
    if os.geteuid() != 0:
        return _checked(_own(), owner, home)
    if override := environ.get(OVERRIDE):
        return _checked(_lent(override, lookup, f"{OVERRIDE}={override}"), owner, home)
    if owner:
        return _lent(_name_of(owner, home), lookup, f"the owner of {home.data}")
    for name in CANDIDATES:
        try:
            return _lent(name, lookup, name)
        except EdgeError:
            continue
    raise EdgeError(f"embedded Postgres does not run as root, and no account of {', '.join(CANDIDATES)} exists",
                    cure=f"make an account for it and name it in {OVERRIDE}")  # fmt: skip


def _own() -> Account:
    uid = os.geteuid()
    try:
        return Account(pwd.getpwuid(uid).pw_name, uid, None)
    except KeyError:
        raise EdgeError(f"embedded Postgres needs an account for uid {uid}, and the host has none",
                        cure="add the uid to /etc/passwd, or set [database] url") from None  # fmt: skip


def _lent(name: str, lookup: Callable[[str], pwd.struct_passwd], what: str) -> Account:
    try:
        entry = lookup(name)
    except KeyError:
        raise EdgeError(f"embedded Postgres cannot run as {what}: no such account") from None
    if entry.pw_uid == 0:
        raise EdgeError(f"embedded Postgres cannot run as {what}: that is root")
    return Account(name, entry.pw_uid, (entry.pw_uid, entry.pw_gid))


def _name_of(uid: int, home: Home) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise EdgeError(f"{home.data} belongs to uid {uid}, which is no account of this host",
                        cure=f"chown -R it to an account, and name that in {OVERRIDE}") from None  # fmt: skip


def _checked(account: Account, owner: int | None, home: Home) -> Account:
    if owner is not None and owner != account.uid:
        raise EdgeError(
            f"{home.data} belongs to uid {owner}, but its server would run as {account.name} (uid {account.uid})",
            cure=f"run singd as before, or chown -R {account.name} {home.data} {home.run}",
        )
    return account


async def reachable(keeper: Keeper, account: Account, home: Home, binaries: Binaries) -> Binaries:
    """Programs that the account can run on data that it can reach: the wheel's, or a copy beside the data.

    Raises:
        EdgeError: The state path is closed to the account (names the first directory that blocks), or
            not even the copy can be run.
    """
    if account.lent is None:
        return binaries
    if blocked := await _first_blocked(keeper, account, home.root):
        raise EdgeError(
            f"directory {blocked} is closed to the account {account.name} that embedded Postgres runs as",
            cure=f"give --state a directory elsewhere, allow passage (setfacl -m u:{account.name}:x {blocked}), "
            f"or name another account in {OVERRIDE}",
        )
    if await _usable(keeper, account, binaries):
        return binaries
    copy = await trio.to_thread.run_sync(copied, binaries, home)
    if not await _usable(keeper, account, copy):
        raise EdgeError(f"the programs in {copy.bin_dir} cannot be run as {account.name}",
                        cure="is the file system mounted noexec? give --state a directory elsewhere")  # fmt: skip
    return copy


async def _first_blocked(keeper: Keeper, account: Account, path: Path) -> Path | None:
    if await _passes(keeper, account, "-x", path):
        return None
    for directory in reversed(path.parents):
        if not await _passes(keeper, account, "-x", directory):
            return directory
    return path


async def _usable(keeper: Keeper, account: Account, binaries: Binaries) -> bool:
    try:
        for program in ("postgres", "initdb"):
            if (await run(keeper, (binaries.program(program), "--version"), account.lent)).status:
                return False
    except KeeperGone:
        raise
    except EdgeError:
        return False
    return await _passes(keeper, account, "-r", binaries.catalogue_text)


async def _passes(keeper: Keeper, account: Account, mode: str, path: Path) -> bool:
    program = shutil.which("test", path="/usr/bin:/bin:/usr/local/bin") or "/usr/bin/test"
    return (await run(keeper, (program, mode, str(path)), account.lent)).status == 0
