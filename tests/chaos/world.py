"""A run's surroundings: the cluster, the notes the checker reads, and the words faults are made of."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from support.cluster import DATABASE, Cluster, Node, still_there

ORPHANS_S = 5.0
SLACK_S = 1.0
BODY_S = 6.0
"""The longest body, and a moment."""
UNFINISHED = """
SELECT (SELECT count(*) FROM singd.occurrence o WHERE due_at <= to_timestamp({until})
          AND (verdict IS NULL OR retry_at IS NOT NULL
               OR EXISTS (SELECT FROM singd.attempt a WHERE a.occurrence_id = o.id AND a.finished_at IS NULL)))
     + (SELECT count(*) FROM (SELECT max(coalesce(due_until, due_at)) AS newest FROM singd.occurrence
                              WHERE owner <> 'cluster' GROUP BY schedule, owner) n
        WHERE newest < to_timestamp({until}) - interval '2 s')
"""
"""What is due and not final, and whose nodes' own rows have not arrived."""


WHAT_IS_OPEN = """
SELECT o.schedule, o.owner, o.due_at::text, o.verdict, o.retry_at::text, a.number, a.state, a.epoch, a.node, a.claimed_at::text
FROM singd.occurrence o LEFT JOIN singd.attempt a ON a.occurrence_id = o.id AND a.finished_at IS NULL
WHERE o.due_at < now() - interval '6 s' AND (o.verdict IS NULL OR o.retry_at IS NOT NULL OR a.number IS NOT NULL)
ORDER BY o.due_at LIMIT 20
"""


class NotNow(Exception):
    """The fault cannot be made at this moment (no leader, say); nothing was done."""


class World:
    """What faults act on; every method may be called by any lane's thread."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.counts: Counter[str] = Counter()
        self.over = threading.Event()
        self.notes = cluster.directory / "faults.jsonl"
        self.notes.touch()
        self._lock = threading.Lock()
        self._watchers: list[threading.Thread] = []
        (cluster.directory / "orders").mkdir(exist_ok=True)

    # -- notes ------------------------------------------------------------------------------------

    def note(self, note: str, **values: Any) -> None:
        """A line for the checker."""
        with self._lock, self.notes.open("a") as out:
            out.write(json.dumps({"note": note, **values}) + "\n")

    @contextlib.contextmanager
    def fault(self, kind: str, family: str = "", node: Node | None = None) -> Iterator[None]:
        """Around a fault from its begin to its heal; a kind that names the node's part says leader or follower."""
        leader = self.cluster.leader()
        leads = leader is not None and node is not None and leader[1] == node.name
        kind = kind.replace("NODE", "leader" if leads else "follower")
        epoch = leader[0] if leads and leader is not None else None
        begin, made = time.time(), True
        try:
            yield
        except NotNow:
            made = False
            raise
        finally:
            if made:
                with self._lock:
                    self.counts[kind] += 1
            name = node.name if node is not None else ""
            self.note(
                "fault",
                kind=kind,
                family=family,
                node=name,
                epoch=epoch,
                begin=begin,
                end=time.time(),
                load=load(),
            )

    # -- pieces -----------------------------------------------------------------------------------

    def hold(self, seconds: float) -> None:
        """Let the fault last; ends early only when the run is aborted."""
        self.over.wait(seconds)

    def sql(self, text: str, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """As the superuser, at the primary.

        Raises:
            NotNow: It does not answer.
        """
        try:
            return self.cluster.pair.primary.execute(text, database)
        except psycopg.Error as error:
            raise NotNow(str(error)) from error

    def link(self, node: Node, do: str, **values: Any) -> Any:
        """An order to the node's link."""
        return self.cluster.proxy.tell(node.name, do, **values)

    def leads(self, node: Node) -> bool:
        """Whether this node leads now."""
        leader = self.cluster.leader()
        return leader is not None and leader[1] == node.name

    def gone_within_5s(self, node: Node, tree: dict[int, str]) -> None:
        """In 5 s from now, look whether anything of this tree is left (I14)."""

        def look() -> None:
            time.sleep(ORPHANS_S + SLACK_S)
            if left := still_there(tree):
                self.note("orphans", node=node.name, left=left)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        self._watchers.append(watcher)

    def ended(self, node: Node, how: str, limit: float | None = None) -> None:
        """Wait for the end of a daemon that was asked to end, and note how long it took (I13)."""
        assert node.process is not None
        tree, began = node.tree(), time.monotonic()
        try:
            node.process.wait(45)
        except Exception:  # a hang is a finding: the run goes on without it
            node.kill()
        seconds = time.monotonic() - began
        self.note("exit", node=node.name, how=how, seconds=seconds, **({"limit": limit} if limit else {}))
        self.gone_within_5s(node, tree)

    def restart(self, node: Node) -> None:
        """Start it, and give it a moment to stand up."""
        node.start()
        self.hold(0.8)

    def look_after(self, node: Node) -> None:
        """A daemon that ended by itself is a finding (I11), and started again."""
        if node.process is not None and node.process.poll() is not None:
            tail = tail_of(node.log)
            self.note("gone", node=node.name, code=node.process.returncode, tail=tail)
        node.start()

    # -- the whole --------------------------------------------------------------------------------

    def wait_healthy(self, steady_s: float = 3.0, patience_s: float = 90.0) -> bool:
        """Until somebody leads and every daemon is up, for a while on end, and what faults left open is settled."""
        until, since = time.monotonic() + patience_s, time.monotonic()
        while time.monotonic() < until:
            for node in self.cluster.nodes:
                self.look_after(node)
            if self.cluster.leader() is None:
                since = time.monotonic()
            if time.monotonic() - since >= steady_s:
                return self.wait_finished(time.time() - BODY_S, until - time.monotonic())
            time.sleep(0.1)
        return False

    def wait_led(self, patience_s: float = 30.0) -> bool:
        """Until somebody leads for the first time."""
        until = time.monotonic() + patience_s
        while self.cluster.leader() is None and time.monotonic() < until:
            time.sleep(0.05)
        return self.cluster.leader() is not None

    def wait_finished(self, until: float, patience_s: float = 90.0) -> bool:
        """Until everything that was due up to then is final."""
        give_up = time.monotonic() + patience_s
        while time.monotonic() < give_up:
            with contextlib.suppress(NotNow):
                if self.sql(UNFINISHED.format(until=until))[0][0] == 0:
                    return True
            time.sleep(0.5)
        return False

    def unfinished(self) -> str:
        """Words about who leads and what is open."""
        with contextlib.suppress(NotNow):
            return f"leader {self.cluster.leader()}, {self.sql(WHAT_IS_OPEN)}"
        return "Postgres does not answer"

    def join(self) -> None:
        """Until the last look for orphans."""
        for watcher in self._watchers:
            watcher.join(ORPHANS_S + 5)


def load() -> float:
    """Processes that want a core, for each core there is: 1 = all are busy and nobody waits."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)


def tail_of(file: Path, most: int = 2000) -> str:
    """The last lines of a log."""
    return file.read_text(errors="replace")[-most:] if file.exists() else ""
