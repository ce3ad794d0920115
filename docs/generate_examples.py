"""The worked examples of docs/configuration.md: what singd's own core decides, at fixed instants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from generate_tables import Table, code, markdown

from singd.core.admission import Blocker, admit
from singd.core.config import Config, load, render
from singd.core.config.effective import effective, written
from singd.core.config.problems import Wrong
from singd.core.config.readers import duration
from singd.core.cron import Cron
from singd.core.plan import Plan, plan
from singd.core.retry import wait_before_retry
from singd.core.trigger import upcoming
from singd.core.units import format_duration
from singd.core.values import Backoff, CatchUp, Every, Overlap, Policy, Trigger

BERLIN = ZoneInfo("Europe/Berlin")
SUNDAYS = {"29 March 2026, 02:00 → 03:00": (2026, 3, 29), "25 October 2026, 03:00 → 02:00": (2026, 10, 25)}
ENTRIES = ("30 2 * * *", "0 2,3 * * *", "30 1-3 * * *", "30 * * * *", "*/30 2 * * *")
NOW = datetime(2026, 3, 1, 3, 30, 20, tzinfo=UTC)
"""Of the catch-up example; the daemon was away since 01:50."""
AWAY_SINCE = datetime(2026, 3, 1, 1, 50, tzinfo=UTC)

MAIN = b"""\
[schedules.nightly_dump]
cron = "30 2 * * *"
command = ["pg_dump", "--file=/srv/dump.sql", "shop"]
timeout = "1h"
"""
DROP_IN = b"""\
[schedules.nightly_dump]
every = "6h"
timeout = "2h"
"""
MISTAKES = b"""\
[defaults]
timeout = 30

[schedules.nightly_dump]
cron = "30 25 * * *"
command = "pg_dump shop"
timezone = "Europe/Berln"
retires = 2
"""


def clock_changes() -> Table:
    """Local instants from 01:00 to 04:00 on both Sundays, by kind of entry."""
    rows = []
    for expression in ENTRIES:
        cron = Cron.parse(expression, timezone="Europe/Berlin")
        kind = "fixed time" if cron.fixed_time() else "every so often"
        rows.append((code(expression), kind, *(_night(cron, *day) for day in SUNDAYS.values())))
    return Table(("cron", "is", *SUNDAYS), rows)


def _night(cron: Cron, year: int, month: int, day: int) -> str:
    begin, end = (datetime(year, month, day, hour, tzinfo=BERLIN).astimezone(UTC) for hour in (1, 4))
    due = takewhile(lambda at: at < end, cron.upcoming(begin - timedelta(seconds=1)))
    return ", ".join(f"{at.astimezone(BERLIN):%H:%M %Z}" for at in due) or "none"


def instants() -> Table:
    """The next three instants of a trigger of each shape."""
    triggers: dict[str, Trigger] = {
        f'every = "{text}"': Every(duration()(text)) for text in ("20m", "7m", "1d")
    }
    for expression in ("0 9 * * mon-fri", "0 0 13 * fri", "0 6 L * *", "0 6 * * 1#2", "H 4 * * *"):
        triggers[f'cron = "{expression}"'] = Cron.parse(expression, name="nightly_dump")
    triggers['cron = "*/20 * * * * *"'] = Cron.parse("*/20 * * * * *", seconds=True)
    return Table(("trigger", "next three"), [(code(text), _three(found)) for text, found in triggers.items()])


def _three(trigger: Trigger) -> str:
    return ", ".join(f"{at:%a %m-%d %H:%M:%S}" for at in islice(upcoming(trigger, NOW), 3))


def durations() -> Table:
    """What is read, and what is refused."""
    texts: tuple[object, ...] = ("90s", "1h 30m", "1.5h", "2 weeks", "250ms", 30, "30", "1h 5h", "-5m")
    return Table(("written", "means"), [(code(_toml(value)), _meaning(value)) for value in texts])


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _meaning(value: object) -> str:
    try:
        return code(format_duration(duration()(value)))
    except Wrong as wrong:
        return f"{wrong.code}: {wrong.message}; {wrong.cure}".replace("{key}", "timeout")


def overlaps() -> Table:
    """What is decided of 03:05 while 03:00, run 12, still runs."""
    rows = []
    for overlap in Overlap:
        admission, reason = admit(overlap, Blocker("12"), backlog=False)
        rows.append((code(f'overlap = "{overlap}"'), admission.name.lower(), code(reason)))
    return Table(("policy", "decision", "reason", "meaning"), rows)


def catch_up() -> Table:
    """What becomes of each quarter of an hour after an absence."""
    policies = {f'catch_up = "{word}"': Policy(catch_up=word) for word in CatchUp}
    policies['catch_up = "all"`, `catch_up_max = 2'] = Policy(catch_up=CatchUp.ALL, catch_up_max=2)
    policies['catch_up_window = "12h"'] = Policy(catch_up_window=timedelta(hours=12))
    policies['grace = "1h"'] = replace(Policy(), grace=timedelta(hours=1))
    trigger = Cron.parse("*/15 * * * *")
    rows = [
        (code(text), *_became(plan(trigger, policy, AWAY_SINCE, NOW))) for text, policy in policies.items()
    ]
    return Table(("policy", "run", "do not run"), rows)


def _became(found: Plan) -> tuple[str, str]:
    gone = [f"{_range(part.first, part.last)} {part.verdict}: {part.reason}" for part in found.ranges]
    return ", ".join(f"{at:%H:%M}" for at in found.run), "; ".join(gone)


def _range(first: datetime, last: datetime) -> str:
    return f"{first:%H:%M}" if first == last else f"{first:%H:%M}–{last:%H:%M}"


def backoff() -> str:
    """The waits before retries 1 to 7 by default."""
    waits = (format_duration(wait_before_retry(Backoff(), used)) for used in range(7))
    return f"`{written(Backoff())}` waits {', '.join(waits)}, and so on.\n"


def drop_ins() -> str:
    """Two files, and every value that was set by one of them."""
    files = [("singd.toml", MAIN), ("conf.d/50-here.toml", DROP_IN)]
    config = load(files).config
    assert config is not None
    table = Table(("key", "value", "set at"), list(_settings(config)))
    return "".join(_file(name, raw) for name, raw in files) + "Together:\n\n" + markdown(table)


def _settings(config: Config) -> Iterator[tuple[str, str, str]]:
    for key, value in effective(config.schedules["nightly_dump"]):
        if (origin := config.origin("nightly_dump", key)) != "default":
            yield code(key), code(json.dumps(value)), code(origin)


def _file(name: str, raw: bytes) -> str:
    return f"```toml\n# {name}\n{raw.decode()}```\n\n"


def diagnostics() -> str:
    """A file with mistakes, and what is said of it."""
    files = [("singd.toml", MISTAKES)]
    return f"```\n{MISTAKES.decode()}```\n\n```\n{render(load(files).problems, files)}```\n"


BLOCKS: Mapping[str, Callable[[], Table | str]] = {
    "clock changes": clock_changes,
    "instants": instants,
    "durations": durations,
    "overlap": overlaps,
    "catch-up": catch_up,
    "backoff": backoff,
    "drop-ins": drop_ins,
    "diagnostics": diagnostics,
}
