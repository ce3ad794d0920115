"""What a check found, and when a figure is a worry: pure, so that every judgement is tested without its machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from singd.core import skew
from singd.core.units import counted


class Standing(StrEnum):
    """How a check ended. Only `wrong` keeps something promised from being done."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: about what, how it stands, and what to do where it does not stand well."""

    check: str
    standing: Standing
    text: str
    cure: str = ""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Standing.OK, text)


def warning(check: str, text: str, cure: str) -> Finding:
    """It works, but something promised is at risk."""
    return Finding(check, Standing.WARNING, text, cure)


def wrong(check: str, text: str, cure: str) -> Finding:
    """Something does not work."""
    return Finding(check, Standing.WRONG, text, cure)


CONNECTIONS = 5
"""What one daemon needs at most: two leased sessions and three of the pool."""
_TOLD = timedelta(seconds=2)
_SLOW_MS, _VERY_SLOW_MS = 20.0, 500.0
_ROOM, _NO_ROOM = 1 << 30, 100 << 20
_DESCRIPTORS, _TOO_FEW = 1024, 256
_REMOTE = ("nfs", "cifs", "smb", "fuse.", "9p", "ceph", "glusterfs", "lustre", "afs", "ocfs", "gfs")
_HARMLESS = ("fuse.ext", "fuse.xfs", "fuse.overlay", "fuseblk")
_PROMISES = {
    "fsync": "a crash of the database's machine may damage the ledger: runs may be lost or repeated",
    "full_page_writes": "a crash of the database's machine may damage the ledger: runs may be lost or repeated",
    "synchronous_commit": "a crash of the database's machine may forget the last runs, which then run again",
}


def clock_skew(ahead: timedelta) -> Finding:
    """By how much this machine's clock is ahead of the database's."""
    side = "ahead of" if ahead > timedelta() else "behind"
    text = f"this machine's clock is {abs(ahead).total_seconds() * 1000:.0f} ms {side} the database's"
    if abs(ahead) > skew.MOST:
        return wrong("clock skew", f"{text}: a daemon here may not lead", skew.CURE)
    return warning("clock skew", text, skew.CURE) if abs(ahead) > _TOLD else ok("clock skew", text)


def round_trip(milliseconds: float) -> Finding:
    """The median of a few."""
    text = f"{milliseconds:.1f} ms a statement"
    cure = "run the daemon nearer to its database: every claim waits for a commit there"
    if milliseconds > _VERY_SLOW_MS:
        return wrong("round trip", f"{text}: heartbeats of a lease of 5 s are at risk", cure)
    return warning("round trip", text, cure) if milliseconds > _SLOW_MS else ok("round trip", text)


def connections(used: int, most: int) -> Finding:
    """`most`: how many this login may have at the same time as all others."""
    free = most - used
    text = f"{used} of {most} used"
    cure = "raise max_connections (or the role's CONNECTION LIMIT), or end what uses them up"
    if free < 1:
        return wrong("connections", f"{text}: none is free", cure)
    if free < CONNECTIONS:
        return warning("connections", f"{text}: a daemon that starts now needs {CONNECTIONS}", cure)
    return ok("connections", f"{text}; a daemon needs {CONNECTIONS}")


def durability(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Settings of the server that decide what a crash of it costs."""
    off = [name for name in _PROMISES if settings.get(name) == "off"]
    for name in off:
        yield warning("durability", f"{name} = off: {_PROMISES[name]}", f"set {name} = on in postgresql.conf")
    if not off:
        yield ok("durability", ", ".join(f"{name} = {settings.get(name)}" for name in _PROMISES))


def space(free: int, path: str) -> Finding:
    """Room on the file system of a directory."""
    text = f"{_size(free)} free on the file system of {path}"
    cure = f"make room: the local journal, logs and an embedded database are in {path}"
    if free < _NO_ROOM:
        return wrong("disk", text, cure)
    return warning("disk", text, cure) if free < _ROOM else ok("disk", text)


def descriptors(soft: int) -> Finding:
    """How many files the daemon may have open, if it is started as this process was."""
    text = f"{counted(soft, 'descriptor')} may be open at a time"
    cure = "ulimit -n 4096, or LimitNOFILE=4096 in the unit"
    if soft < _TOO_FEW:
        return wrong("descriptors", text, cure)
    return warning("descriptors", text, cure) if soft < _DESCRIPTORS else ok("descriptors", text)


def file_system(kind: str, path: str) -> Finding:
    """Locks and fsync of the local journal need a disk of this machine's own."""
    if kind.startswith(_REMOTE) and not kind.startswith(_HARMLESS):
        return warning(
            "file system", f"{path} is on {kind}, over the network: locks and durable writes are not certain there",
            "give --state a directory on a disk of this machine",
        )  # fmt: skip
    return ok("file system", f"{path} is on {kind or 'an unknown file system'}")


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
