"""The node's name: a lock in a leased session of its own, and the ear for what operators ask.

    open                               keep, each second                       close
connect, take the name's lock,   ──▶  one statement renews the lease,    ──▶  drop the socket:
register, LISTEN                      then wait for a notification             the name is free

The server may hold the name for a session of this very process whose connection broke: that one is ended first, or this
node would stop all its work until the lease of its own ghost is over.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
import trio

from singd.edges.postgres import keys, text
from singd.edges.postgres.session import LeasedSession
from singd.edges.postgres.statements import run
from singd.edges.postgres.wire import TrioConnection
from singd.errors import NameTaken
from singd.ports import NodeInfo, Registration


class PostgresPresence:
    """`ports.Presence`.

    Args:
        conninfo: A direct connection to the primary server.
        lease_s: Silence after which the server ends the session.
    """

    def __init__(self, conninfo: str, schema: str = "singd", lease_s: float = 5.0) -> None:
        self._session = LeasedSession(conninfo, schema, lease_s, "name")
        self._heard = False

    async def open(self, node: NodeInfo) -> Registration:
        """See `ports.Presence`."""
        node = _clean(node)
        with self._session.told("registering this node"):
            connection = await self._session.open(node.name)
            registration = await self._register(connection, node)
            connection.add_notify_handler(self._note)
            await connection.execute(f'LISTEN "{keys.channel(self._session.schema)}"'.encode())
            return registration

    async def keep(self, seconds: float) -> bool:
        """See `ports.Presence`."""
        with self._session.told("keeping the node's name"):
            with trio.fail_after(self._session.lease_s):  # the name may be another's after that
                await self._session.ask("keep", {})
            if not self._heard and self._session.connection is not None:
                with trio.move_on_after(seconds):
                    await self._session.connection.hear()
        heard, self._heard = self._heard, False
        return heard

    async def close(self) -> None:
        """See `ports.Presence`."""
        self._session.drop()

    def _note(self, notification: psycopg.Notify) -> None:
        self._heard = True

    async def _register(self, connection: TrioConnection, node: NodeInfo) -> Registration:
        schema = self._session.schema
        name_key = keys.node_key(schema, node.name)
        async with connection.transaction():
            await run(connection, "serialise", {"key": keys.register_key(schema)})
            # Taken inside: of two that start at once, the second sees the first one's name as live.
            if not await _take_name(connection, node, name_key):
                raise NameTaken(
                    f"node {node.name!r} is already running",
                    cure="give this daemon another [node] name, or end the other",
                )
            rows = await run(
                connection,
                "register",
                {
                    "process": node.process, "name": node.name, "key": name_key, "role": node.role,
                    "version": node.version, "content_hash": node.content_hash,
                },
            )  # fmt: skip
        return Registration(startup_at=rows[0][0])


async def _take_name(connection: TrioConnection, node: NodeInfo, key: int) -> bool:
    if (await run(connection, "take_name", {"key": key}))[0][0]:
        return True
    ended = await run(connection, "end_own_ghost", {"name": node.name, "process": node.process})
    return bool(ended and (await run(connection, "wait_for_lock", {"key": key}))[0][0])


def _clean(node: NodeInfo) -> NodeInfo:
    """What Postgres can keep of it."""
    return replace(
        node,
        name=text.clean(node.name),
        role=text.clean(node.role),
        version=text.clean(node.version),
        content_hash=text.clean(node.content_hash),
    )
