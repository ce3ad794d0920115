"""Keys of the advisory locks: a class of ours in the upper half, a hash in the lower.

Advisory locks are a namespace of the whole database, shared with everything else that uses it: the class
keeps us apart from others, the schema in the hash keeps two ledgers in one database apart. In `pg_locks`
such a key is seen as classid = class, objid = hash, objsubid = 1.
"""

from __future__ import annotations

import hashlib

LEADER, NODE, REGISTER, MIGRATE, INTAKE = range(0x51D0, 0x51D5)


def leader_key(schema: str) -> int:
    """Held by the leader of the ledger in `schema`."""
    return _key(LEADER, schema)


def node_key(schema: str, name: str) -> int:
    """Held by the live daemon with this node name. Two names that collide (1 in 2 billion) are refused as one."""
    return _key(NODE, f"{schema}\0{name}")


def register_key(schema: str) -> int:
    """Held while a node registers, so that exactly one finds nobody there."""
    return _key(REGISTER, schema)


def migration_key(schema: str) -> int:
    """Held while migrations are applied."""
    return _key(MIGRATE, schema)


def intake_key(schema: str, origin: str) -> int:
    """Held while rows of one node's local journal are taken in, so that a batch sent twice is looked at in turn."""
    return _key(INTAKE, f"{schema}\0{origin}")


def channel(schema: str) -> str:
    """The notification channel on which nodes hear of operators' requests."""
    return f"singd_{leader_key(schema) & 0xFFFFFFFF:08x}"


def halves(key: int) -> tuple[int, int]:
    """(classid, objid) as `pg_locks` shows them."""
    return key >> 32, key & 0xFFFFFFFF


def _key(kind: int, text: str) -> int:
    # 31 bits, so that no half is ever negative and pg_locks shows what we computed
    return kind << 32 | int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
