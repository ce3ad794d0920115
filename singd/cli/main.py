"""The program `singd`: finds the verb, then imports that verb's module and nothing else.

A verb is one row of `VERBS` and one module of this package with two functions:

    def configure(parser: argparse.ArgumentParser) -> None     its own arguments
    def run(args: argparse.Namespace) -> int                   does it; the exit code

`args` also has what every verb takes: `json`, `config`, `state` (see `singd.cli.paths.find`). Results go to stdout
by `singd.cli.output`; an error is raised as a SingdError and is told to people here, with its exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

VERBS: dict[str, tuple[str, str]] = {
    "run": ("run", "the daemon, in the foreground"),
    "check": ("check", "every error and warning of a configuration, without a database"),
    "next": ("next", "upcoming instants, local and UTC"),
    "status": ("status", "the daemon and its cluster: first what is wrong"),
    "list": ("list", "the schedules, with their last and next run"),
    "show": ("show", "one schedule with every value in force and where it was set"),
    "runs": ("runs", "what became of every instant, newest first"),
    "logs": ("logs", "the output of a run"),
    "why": ("why", "the verdict of any instant, and its reason"),
    "trigger": ("trigger", "run a schedule once, now"),
    "cancel": ("cancel", "end a run, wherever it is"),
    "pause": ("pause", "skip a schedule's instants from now on"),
    "resume": ("resume", "end a schedule's pause"),
    "resign": ("resign", "have the leader hand leadership over"),
    "plugins": ("plugins", "what is installed, what it offers, what failed to load"),
    "drill": ("drill", "failover proved: real daemons in a scratch schema, their leaders killed and frozen"),
    "doctor": ("doctor", "whether everything it stands on can bear it: database, disk, clock, limits"),
    "db": ("db", "the ledger's schema: migrate it, or print the SQL"),
}
"""Verb -> (module in singd.cli, one line for people)."""

_TAKES_VALUE = ("-c", "--config", "--state")
INTERRUPTED, BROKEN_PIPE = 130, 141
"""128 + the signal's number, as a shell would say it."""
CANNOT_WRITE = 74
"""EX_IOERR of sysexits.h: what was to be said could not be."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Words after the program's name; default: the command line's.

    Returns:
        The exit code (docs: "Exit codes").
    """
    closed = _open_streams()
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence()  # the reader (head, less) has seen enough
        return BROKEN_PIPE
    except OSError as error:  # a verb's own were told in `_perform`: this one is stdout's
        _silence()
        return _cannot_write("it is closed" if closed else error.strerror or str(error))
    return code


def _open_streams() -> bool:
    """Make sure of descriptors 0 to 2: where one is closed, the next socket or file would become it.

    Returns:
        Whether stdout was closed, as by `>&-`. Python has None for it then; whatever is written to it fails now.
    """
    descriptor = 0
    while descriptor < 3:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    closed = sys.stdout is None
    if closed:
        sys.stdout = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return closed


def _silence() -> None:
    """Python flushes stdout once more at exit: let what is left go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cannot_write(reason: str) -> int:
    from singd.cli.output import complain

    complain(f"standard output cannot be written: {reason}")
    return CANNOT_WRITE


def _dispatch(words: list[str]) -> int:
    verb, rest = _split(words)
    if verb is None:
        return _without_verb(rest)
    if verb == "help":
        return _dispatch([*rest, "--help"])
    if verb not in VERBS:
        return _unknown(verb)
    return _perform(verb, rest)


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """The first word that is no option, and the others: `singd --json status` is `singd status --json`."""
    skip = False
    for index, word in enumerate(words):
        if not skip and not word.startswith("-"):
            return word, words[:index] + words[index + 1 :]
        skip = not skip and word in _TAKES_VALUE
    return None, words


def _without_verb(options: list[str]) -> int:
    from singd import __version__

    if options in (["--version"], ["-V"]):
        print(f"singd {__version__}")
        return 0
    helping = options in (["--help"], ["-h"])
    print(_overview(__version__), file=sys.stdout if helping else sys.stderr)
    return 0 if helping else 2


def _overview(version: str) -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb.ljust(width)}  {summary}" for verb, (_, summary) in VERBS.items())
    return (
        f"singd {version}: a scheduler and supervisor with a ledger of every instant\n\n"
        f"usage: singd VERB [options]\n\n{verbs}\n\n"
        "`singd VERB --help` tells the rest. Every verb takes --json, --config FILE and --state DIR;\n"
        "every option has a variable: --state is SINGD_STATE."
    )


def _unknown(verb: str) -> int:
    from difflib import get_close_matches

    from singd.cli.output import USAGE, complain

    close = get_close_matches(verb, VERBS, n=1)
    complain(
        f"there is no verb {verb!r}",
        f"did you mean `singd {close[0]}`?" if close else "`singd --help` lists the verbs",
    )
    return USAGE


def _perform(verb: str, rest: list[str]) -> int:
    """Parse and run; an error that is told to people is caught here and nowhere below."""
    from importlib import import_module

    from singd.cli.arguments import VerbParser
    from singd.errors import SingdError

    module_name, summary = VERBS[verb]
    module = import_module(f"singd.cli.{module_name}")
    parser = VerbParser(verb, summary)
    module.configure(parser)
    try:
        args: argparse.Namespace = parser.parse_args(rest)
    except SystemExit as exit_:  # argparse has said what it had to say
        return int(exit_.code or 0)
    try:
        return int(module.run(args))
    except SingdError as error:
        return _told(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or _of_stdout(error, verb):
            raise
        return _told_os(error)


def _told(error: Exception) -> int:
    from singd.cli.output import complain
    from singd.edges.control_wire import exit_code

    complain(str(error), getattr(error, "cure", ""))
    return exit_code(error)


def _of_stdout(error: OSError, verb: str) -> bool:
    """Whether printing is what failed: nothing but the daemon writes to files it does not name in its errors."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return full and error.filename is None and verb != "run"


def _told_os(error: OSError) -> int:
    """An error of the system that no verb expected: which path, and what about it."""
    from singd.cli.output import NO_PERMISSION, UNAVAILABLE, complain

    what = error.strerror or str(error) or type(error).__name__
    complain(f"{os.fsdecode(error.filename)}: {what}" if isinstance(error.filename, str | bytes) else what)
    return NO_PERMISSION if isinstance(error, PermissionError) else UNAVAILABLE
