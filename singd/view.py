"""What the control socket may see of the daemon: a snapshot of values, never a handle on anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from singd.core.values import Log, Schedule, Scope
from singd.daemon import Daemon
from singd.events import LedgerAway, NameInUse
from singd.views import RunningAttempt, ScheduleView, Setting, Snapshot, Trouble, Unshipped

Settings = Callable[[str], Sequence[Setting]]
NO_LEDGER = (
    "see to the database and the way to it (`singd doctor`); this node's own schedules go on meanwhile"
)


class View:
    """A `control.DaemonView` over one daemon.

    Args:
        daemon: The daemon.
        database: Where the ledger is, for people, asked each time.
        config_file: The main file of the generation in force.
        settings: Effective values of a schedule with their origins.
        troubles: Standing facts an operator should know, asked each time.
        elsewhere: Schedules of another role, which rest on this node.
        unshipped: What the local journal has and the ledger has not, asked each time.
    """

    def __init__(
        self,
        daemon: Daemon,
        database: Callable[[], str],
        config_file: str,
        settings: Settings,
        troubles: Callable[[], Sequence[Trouble]],
        elsewhere: Sequence[Schedule] = (),
        unshipped: Callable[[], Unshipped] = Unshipped,
    ) -> None:
        self._daemon = daemon
        self._database = database
        self._config_file = config_file
        self._settings = settings
        self._troubles = troubles
        self._elsewhere = elsewhere
        self._unshipped = unshipped

    def snapshot(self) -> Snapshot:
        """What is so at this moment."""
        daemon, parts = self._daemon, self._daemon.parts
        epoch = daemon.trust.epoch
        return Snapshot(
            node=parts.node.name,
            role=parts.node.role,
            version=parts.node.version,
            state=self._state(),
            database=self._database(),
            started_at=daemon.started_at,
            now=parts.clock.now(),
            config_file=self._config_file,
            generation=daemon.generation,
            epoch=epoch,
            trust_s=round(daemon.trust.remaining_s(), 3) if epoch is not None else None,
            leader=parts.node.name if epoch is not None else "",
            schedules=self._schedules(),
            running=self._running(),
            troubles=(*self._waiting(), *self._troubles()),
            skew_s=parts.election.skew_s,
            unshipped=self._unshipped(),
        )

    def settings(self, schedule: str) -> Sequence[Setting]:
        """Every effective value of a schedule in force."""
        return self._settings(schedule)

    def live_log(self, occurrence_id: int) -> Log | None:
        """What a running attempt has written so far."""
        if occurrence_id < 0:  # of the local journal, see `singd.merged`
            return self._daemon.node_runner.log(-occurrence_id)
        return self._daemon.runner.log(occurrence_id)

    def _state(self) -> str:
        daemon = self._daemon
        if daemon.stopping:
            return "stopping"
        if daemon.trust.epoch is not None:
            return "leading"
        match daemon.trouble:
            case NameInUse():
                return "name taken"
            case LedgerAway(cure=cure):
                return "refused" if cure else "no ledger"
        return "standing by" if daemon.campaigned else "starting"

    def _waiting(self) -> Iterator[Trouble]:
        """What keeps work from being done here, and why."""
        match self._daemon.trouble:
            case NameInUse(reason, _, cure):
                yield Trouble(f"nothing runs on this node: {reason}", cure)
            case LedgerAway(reason, _, cure) if self._daemon.trust.epoch is None:
                yield Trouble(f"cluster work waits on this node: {reason}", cure or NO_LEDGER)
            case LedgerAway(reason, _, cure):
                yield Trouble(f"this node leads, but its name is not registered: {reason}", cure)
        if (trouble := self._daemon.node_trouble) is not None:
            yield Trouble(f"this node's own schedules wait: {trouble}", trouble.cure)

    def _schedules(self) -> Sequence[ScheduleView]:
        lines, pauses = self._daemon.lines(), self._daemon.desk.pauses
        here = (
            ScheduleView(schedule, lines[name].cursor if name in lines else None, pause=pauses.get(name))
            for name, schedule in self._daemon.parts.schedules.items()
        )
        return (*here, *(ScheduleView(schedule, here=False) for schedule in self._elsewhere))

    def _running(self) -> Sequence[RunningAttempt]:
        return tuple(
            RunningAttempt(
                run.attempt.run_id,
                run.attempt.number,
                run.schedule.name,
                run.attempt.occurrence.due_at,
                run.attempt.epoch,
                run.schedule.scope is Scope.NODE,
            )
            for run in self._daemon.running()
        )
