"""`make chaos`: one campaign from its seed to its verdict. Exit 1 on any violation; then the directory is kept.

python tests/chaos/run.py --seed 1 --faults 2000 [--minutes 60] [--kinds "kill -9,SIGTERM"] [--keep]
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos.campaign import Campaign, Limits
from chaos.checks import Violation, check, gaps
from chaos.history import Body, History, load_ledger, load_notes, read_bodies, read_terms
from chaos.plan import LINES, Line, configuration
from chaos.world import World
from support.cluster import DATABASE, START, Cluster, cluster

AUDIT = Path(__file__).with_name("audit.sql")


@dataclass
class Verdict:
    """What a run found.

    Attributes:
        occurrences: Instants checked.
        calm: Bodies of instants in the calm, the latest last.
    """

    seed: int
    directory: Path
    faults: Counter[str]
    skipped: Mapping[str, str]
    occurrences: int
    bodies: int
    verdicts: Counter[str]
    gaps: Mapping[str, Sequence[float]]
    calm: Sequence[Body]
    seconds: float
    violations: Sequence[Violation] = field(default_factory=list)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def migrated(made: Cluster) -> None:
    """Make the ledger's tables and the audit before the first daemon starts."""
    node = made.nodes[0]
    prefix = node.namespace.prefix if node.namespace else []
    subprocess.run(
        [*prefix, node.python, "-c", START, "db", "migrate"],
        env=node.environment(),
        check=True,
        capture_output=True,
        cwd="/",
    )
    for other in made.nodes[1:]:  # what plugins offer is found out once, not three times
        shutil.copytree(node.state / "cache", other.state / "cache", dirs_exist_ok=True)
    made.pair.primary.execute(AUDIT.read_text(), DATABASE)


def lived(
    act: Callable[[World], None], lines: Sequence[Line] = LINES, *, program: Sequence[str] = ("-c", START),
    settle_s: float = 90.0, with_standby: bool = True, keep: Callable[[], bool] = lambda: False, tell: Callable[[str], None] = say,
) -> tuple[World, History]:  # fmt: skip
    """A cluster's whole life around `act`, and the history it left. The cluster is gone when this returns."""

    def configure(url: str, witness: Path, directory: Path) -> str:
        return configuration(url, witness, directory, tuple(lines))

    with cluster(configure, program=program, keep=keep, with_standby=with_standby) as made:
        tell(f"{made.directory}, without {made.missing or 'nothing'}")
        migrated(made)
        names = [node.name for node in made.nodes]
        history = History(names, {line.name: line for line in lines}, micros_now(), 0, 0)
        made.start()
        world = World(made)
        if not world.wait_led():
            raise RuntimeError(f"nobody leads:\n{logs_of(made)}")
        history.begin_us = micros_now()
        act(world)
        history.end_us = micros_now()
        tell("faults are over; waiting for every instant's verdict")
        world.wait_finished(history.end_us / 1e6, settle_s)
        for node in made.nodes:
            world.note("exit", node=node.name, how="SIGTERM", seconds=node.stop())
        world.join()
        read(history, made)
    return world, history


def campaign(seed: int, limits: Limits, *, keep: bool = False, tell: Callable[[str], None] = say) -> Verdict:
    """Run one campaign and check it; the directory is kept if anything was wrong."""
    running: list[Campaign] = []
    began = time.monotonic()

    def act(world: World) -> None:
        tell(f"seed {seed}")
        running.append(Campaign(world, seed, limits, tell))
        running[0].run()

    world, history = lived(act, keep=lambda: True, tell=tell)
    verdict = judge(history, world, running[0], seed, time.monotonic() - began)
    if not keep and not verdict.violations:
        shutil.rmtree(world.cluster.directory, ignore_errors=True)
    return verdict


def micros_now() -> int:
    return round(time.time() * 1e6)


def logs_of(made: Cluster) -> dict[str, str]:
    return {
        node.name: node.log.read_text(errors="replace") if node.log.exists() else "" for node in made.nodes
    }


def read(history: History, made: Cluster) -> None:
    """Everything the run left behind."""
    of_nodes = {line.name for line in history.lines.values() if line.scope == "node"}
    history.bodies = read_bodies(made.witness_file.read_text().splitlines(), of_nodes)
    history.logs = logs_of(made)
    doubles = {f"{node.name} (double)": node.home / "double.log" for node in made.nodes}
    history.logs = {
        **history.logs,
        **{name: file.read_text(errors="replace") for name, file in doubles.items() if file.exists()},
    }
    history.terms = [replace(said, node=said.node.split()[0]) for said in read_terms(history.logs)]
    load_ledger(history, lambda sql: made.pair.primary.execute(sql, DATABASE))
    load_notes(history, made.directory / "faults.jsonl")


def judge(history: History, world: World, running: Campaign, seed: int, seconds: float) -> Verdict:
    """The checks, and the figures beside them."""
    checked = sum(
        len(list(line.instants(history.begin_us, history.end_us))) * len(history.owners(line))
        for line in history.lines.values()
    )
    calm = [
        body
        for body in history.bodies
        if body.attempt == 1 and any(begin <= body.due_us / 1e6 <= end for begin, end in history.calms)
    ]
    calm.sort(key=lateness)
    verdicts: Counter[str] = Counter()
    for row in history.rows:
        verdicts[row.verdict or "open"] += row.count
    return Verdict(
        seed, world.cluster.directory, world.counts, running.skipped, checked, len(history.bodies), verdicts,
        gaps(history), calm, seconds, check(history),
    )  # fmt: skip


def report(verdict: Verdict) -> str:
    """For people; the violations last."""
    lines = [
        f"\nseed {verdict.seed}: {sum(verdict.faults.values())} faults of {len(verdict.faults)} kinds in {verdict.seconds / 60:.1f} minutes"
    ]
    lines += [
        f"  {count:5}  {name}"
        for name, count in sorted(verdict.faults.items(), key=lambda item: (-item[1], item[0]))
    ]
    lines += [f"  skipped: {name} ({why})" for name, why in verdict.skipped.items()]
    words = ", ".join(f"{count} {name}" for name, count in verdict.verdicts.most_common())
    lines.append(f"{verdict.occurrences} occurrences checked ({words}), {verdict.bodies} bodies witnessed")
    lines.append("leaderless, from a lone fault on the leader to its successor's first claim:")
    lines += [f"  {family:10} {histogram(seconds)}" for family, seconds in sorted(verdict.gaps.items())]
    if verdict.calm:
        late = [lateness(body) * 1000 for body in verdict.calm]
        lines.append(
            f"begun after its instant, in the calm: p50 {at(late, 50):.0f} ms, p99 {at(late, 99):.0f} ms; the latest:"
        )
        lines += [f"  {lateness(body):.3f} s  {body}" for body in verdict.calm[-3:]]
    kinds = Counter(violation.invariant for violation in verdict.violations)
    for name in sorted(kinds):
        own = [violation for violation in verdict.violations if violation.invariant == name]
        lines += [f"  {violation}" for violation in own[:20]]
        if len(own) > 20:
            lines.append(f"  {name}: … and {len(own) - 20} more")
    lines.append(f"{len(verdict.violations)} violations {dict(kinds) if kinds else ''}")
    if verdict.violations:
        lines.append(f"kept: {verdict.directory} (witness.jsonl, faults.jsonl, */log)")
    return "\n".join(lines)


def lateness(body: Body) -> float:
    return body.begin_wall - body.due_us / 1e6


def histogram(seconds: Sequence[float]) -> str:
    """Count, median, worst, and how many in each bucket."""
    edges = (0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0)
    ordered = sorted(seconds)
    buckets = Counter(next((f"<={edge:g}" for edge in edges if value <= edge), ">7") for value in ordered)
    words = " ".join(
        f"{name}:{buckets[name]}" for name in [*(f"<={edge:g}" for edge in edges), ">7"] if buckets[name]
    )
    return f"{len(ordered)} times, median {at(ordered, 50):.2f} s, worst {ordered[-1]:.2f} s   {words}"


def at(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    parser.add_argument("--keep", action="store_true", help="keep the directory whatever comes out")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that everything is put away
    kinds = tuple(word.strip() for word in args.kinds.split(",") if word.strip())
    verdict = campaign(args.seed, Limits(args.faults, args.minutes, kinds=kinds), keep=args.keep)
    print(report(verdict), flush=True)
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
