"""Occurrences that could start but for room, or but for the time of their retry: in order, each kind by itself."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from singd.agenda import READY, RETRIES, Budget, Kind, Line, Unfinished
from singd.core.values import Schedule

Starting = tuple[Line, Unfinished]


class Waiting:
    """Two queues of a scheduler: for room, and for the time of a retry."""

    def __init__(self) -> None:
        self._ready: defaultdict[Kind, deque[Starting]] = defaultdict(deque)
        self._retries: list[tuple[datetime, int, str]] = []

    def __bool__(self) -> bool:
        """Whether anything waits for room."""
        return any(self._ready.values())

    @property
    def retry_at(self) -> datetime | None:
        """When the first retry is due."""
        return self._retries[0][0] if self._retries else None

    def for_room(self, line: Line, unfinished: Unfinished) -> None:
        """It may start as soon as there is room."""
        unfinished.doing = READY
        self._ready[line.kind].append((line, unfinished))

    def for_retry(self, line: Line, unfinished: Unfinished, retry_at: datetime) -> None:
        """Its next attempt is due then."""
        unfinished.doing = RETRIES
        heapq.heappush(self._retries, (retry_at, unfinished.occurrence_id, line.schedule.name))

    def kinds(self) -> Iterable[Kind]:
        """Those of which some wait: nothing of the same kind overtakes them."""
        return (kind for kind, queue in self._ready.items() if queue)

    def retries_due(self, lines: Mapping[str, Line], now: datetime) -> Iterator[Starting]:
        """Take those whose time has come and that are still wanted."""
        while self._retries and self._retries[0][0] <= now:
            _, number, name = heapq.heappop(self._retries)
            unfinished = lines[name].unfinished.get(number)
            if unfinished is not None and unfinished.doing == RETRIES:
                yield lines[name], unfinished

    def take(self, room: Callable[[Schedule], int]) -> list[Starting]:
        """Take what there is room for, in order."""
        starting: list[Starting] = []
        budget = Budget(room)
        for queue in self._ready.values():
            while queue and budget.take(queue[0][0]):
                line, unfinished = queue.popleft()
                if unfinished.occurrence_id in line.unfinished:
                    starting.append((line, unfinished))
        return starting
