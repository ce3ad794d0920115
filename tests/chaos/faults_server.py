"""Faults of Postgres, and of the plugins that daemons run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from random import Random

import psycopg
from chaos.kinds import kind
from chaos.world import NotNow, World
from support.cluster import DATABASE, ROLE


def _restart(name: str, how: signal.Signals) -> None:
    @kind(name, "server")
    def restart(w: World, rng: Random) -> None:
        with w.fault(name):
            w.cluster.pair.primary.stop(how)
            w.hold(rng.choice((0.0, 0.0, 1.0, 4.0)))
            w.cluster.pair.primary.start()


_restart("Postgres restarted (fast)", signal.SIGINT)
_restart("Postgres restarted (immediate)", signal.SIGQUIT)


@kind("kill -9 of a backend", "server")
def kill_backend(w: World, rng: Random) -> None:
    rows = w.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}' ORDER BY random() LIMIT 1")
    if not rows:
        raise NotNow("no backend")
    with w.fault("kill -9 of a backend"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rows[0][0], signal.SIGKILL)
        _await_server(w)


def _await_server(w: World) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.1)
        with contextlib.suppress(NotNow):
            w.sql("SELECT 1")
            return


def _stopped(seconds: float) -> None:
    @kind(f"SIGSTOP of Postgres, {seconds:g} s", "server", weight=1)
    def stopped(w: World, rng: Random) -> None:
        server = w.cluster.pair.primary
        with w.fault(f"SIGSTOP of Postgres, {seconds:g} s"):
            server.signal_all(signal.SIGSTOP)
            w.hold(seconds)
            server.signal_all(signal.SIGCONT)


_stopped(3.0)
_stopped(8.0)


def _terminated(what: str, pattern: str) -> None:
    @kind(f"{what} terminated", "quick", weight=3)
    def terminated(w: World, rng: Random) -> None:
        with w.fault(f"{what} terminated"):
            w.sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '{pattern}'"
            )


_terminated("lock sessions", "singd lock%")
_terminated("name sessions", "singd name%")
_terminated("pools", "singd ledger%")


def _locked(table: str, seconds: float) -> None:
    @kind(f"{table} locked, {seconds:g} s", "server", weight=1)
    def locked(w: World, rng: Random) -> None:
        statement = f"SET lock_timeout = '5s'; LOCK TABLE singd.{table} IN ACCESS EXCLUSIVE MODE"
        with w.fault(f"{table} locked, {seconds:g} s"):
            try:
                with psycopg.connect(w.cluster.pair.primary.conninfo(DATABASE)) as holder:
                    holder.execute(statement.encode())
                    w.hold(seconds)
            except psycopg.Error as error:
                raise NotNow(str(error)) from error


_locked("occurrence", 10.0)
_locked("leader", 2.0)
_locked("attempt", 4.0)


@kind("connection limit of the role", "server", weight=1)
def connection_limit(w: World, rng: Random) -> None:
    with w.fault("connection limit of the role"):
        w.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT {rng.randint(1, 5)}")
        for node in w.cluster.nodes:
            if rng.random() < 0.5:
                w.link(node, "reset")
        w.hold(rng.uniform(2.0, 5.0))
        _insist(w, f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


def _insist(w: World, text: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            w.sql(text)
            return
        except NotNow:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@kind("standby promoted", "server", weight=2)
def promote(w: World, rng: Random) -> None:
    """With synchronous replication on, the primary is killed at any moment, and nothing acknowledged is lost."""
    pair = w.cluster.pair
    if pair.standby is None:
        raise NotNow("no standby")
    try:
        w.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "postgres")
        w.sql("SELECT pg_reload_conf()")
        _await_step(w)
        w.hold(0.5)
        with w.fault("standby promoted"):
            pair.promote()
            w.cluster.point(pair.primary.port)
    finally:
        _insist(w, "ALTER SYSTEM RESET synchronous_standby_names")
        _insist(w, "SELECT pg_reload_conf()")
    pair.make_standby()


def _await_step(w: World) -> None:
    until = time.monotonic() + 5
    while not w.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
        if time.monotonic() > until:
            raise NotNow("the standby is not in step")
        time.sleep(0.05)


def _ordered(order: str, name: str) -> None:
    @kind(name, "quick")
    def ordered(w: World, rng: Random) -> None:
        leader = w.cluster.leader()
        if leader is None:
            raise NotNow("nobody leads")
        file = w.cluster.directory / "orders" / leader[1]
        with w.fault(name, "", w.cluster.node(leader[1])):
            file.write_text(order)
            w.hold(rng.uniform(1.5, 2.5))
            file.unlink(missing_ok=True)


_ordered("segfault", "plugin: segmentation fault")
_ordered("exit", "plugin: os._exit(0)")
_ordered("hang", "plugin: hangs")
_ordered("orphan", "plugin: leaves an orphan")
_ordered("flood", "plugin: floods its output")
