"""Everything before the first launch: what is here is checked, what is missing is made.

Checks that touch nothing come first: whose data it is, of which version, whether the server's account can
reach it. A cluster is made under another name and renamed when it is whole, so a power cut during initdb
costs the next start half a second and nothing else.

What syncs the disk does so in a thread: the keeper takes a daemon that is silent for seconds for dead.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg.conninfo
import trio

from singd.edges.embedded import leftover, settings
from singd.edges.embedded.account import Account, choose, reachable
from singd.edges.embedded.binaries import Binaries
from singd.edges.embedded.child import run
from singd.edges.embedded.credentials import load_or_make
from singd.edges.embedded.home import Home, own_directory, read_planted, sync_directory, write_durably
from singd.edges.embedded.roles import ADMIN
from singd.errors import EdgeError
from singd.ports import Keeper

INITDB_S = 180.0
"""Longest wait for initdb, which takes half a second where the disk is not overwhelmed."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What a launch needs."""

    home: Home
    account: Account
    binaries: Binaries
    endpoint: settings.Endpoint
    passwords: Mapping[str, str]

    def conninfo(self, database: str, login: str) -> str:
        """libpq connection string; it accepts nothing but a SCRAM exchange from whoever answers."""
        tcp = {"sslmode": "disable"} if self.endpoint.tcp else {}
        return psycopg.conninfo.make_conninfo(
            "", host=self.endpoint.host, port=self.endpoint.port, dbname=database, user=login,
            password=self.passwords[login], require_auth="scram-sha-256", gssencmode="disable", **tcp,
        )  # fmt: skip


async def install(keeper: Keeper, home: Home, found: Binaries) -> Installation:
    """Ready the home for a launch; the caller holds its lock.

    Raises:
        EdgeError: It cannot work here; the message names the directory or file.
    """
    account = choose(home)
    _check_version(home, found)
    usable = await reachable(keeper, account, home, found)
    passwords = await trio.to_thread.run_sync(load_or_make, home)
    await leftover.clear(home, account.uid)
    own_directory(home.run, account.lent)
    if not home.data.exists():
        await _make_cluster(keeper, home, account, usable, passwords[ADMIN])
    endpoint = settings.socket_endpoint(home.run) or _loopback()
    await trio.to_thread.run_sync(_write_settings, home, endpoint)
    return Installation(home, account, usable, endpoint, passwords)


def _write_settings(home: Home, endpoint: settings.Endpoint) -> None:
    write_durably(home.hba, settings.render_hba(endpoint).encode(), 0o644)
    text = settings.render(home.data, home.hba, endpoint)
    write_durably(home.config, text.encode(errors="surrogateescape"), 0o644)


def _check_version(home: Home, found: Binaries) -> None:
    if not home.data.exists():
        return
    major = (read_planted(home.data / "PG_VERSION") or "").strip()
    if not major:
        raise EdgeError(f"{home.data} exists and is not a Postgres cluster", cure="move it away")
    if major != found.major:
        raise EdgeError(
            f"the cluster in {home.data} was made by PostgreSQL {major}, and this singd brings {found.version}",
            cure=f"dump it with the singd that made it, move {home.data} away, start this one and restore the dump",
        )


async def _make_cluster(
    keeper: Keeper, home: Home, account: Account, binaries: Binaries, password: str
) -> None:
    shutil.rmtree(home.half_made, ignore_errors=True)
    own_directory(home.half_made, account.lent)
    argv = (
        binaries.program("initdb"), "-D", str(home.half_made), "-U", ADMIN, "--pwfile", str(home.first_password),
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8", "--no-instructions",
    )  # fmt: skip
    transcript = home.root / "initdb.log"
    _lay_password(home, account, password)
    try:
        ended = await run(keeper, argv, account.lent, log=transcript, limit_s=INITDB_S)
    finally:
        home.first_password.unlink(missing_ok=True)
    if ended.status:
        raise EdgeError(f"initdb failed in {home.root}: {ended.output}", cure=f"see {transcript}")
    home.half_made.rename(home.data)
    sync_directory(home.root)
    transcript.unlink()


def _lay_password(home: Home, account: Account, password: str) -> None:
    home.first_password.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(home.first_password, flags, 0o600), "w") as file:
        file.write(password)
        if account.lent:
            os.fchown(file.fileno(), *account.lent)


def _loopback() -> settings.Endpoint:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return settings.Endpoint("127.0.0.1", probe.getsockname()[1])
