"""Configuration files and the secrets they refer to: the only place that reads either.

Only regular files are opened (a FIFO would hang, a device would never end), and never more of one is read
than the cap, whatever `stat` said a moment earlier.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from singd.core.config import MAX_BYTES, MAX_SCHEDULES, Loaded, Problem, Secret, Severity, load
from singd.core.config.problems import failed
from singd.core.values import Place
from singd.errors import ConfigError

MAX_DROP_INS = 100
MAX_SECRET = 65_536


@dataclass(frozen=True, slots=True)
class ConfigFiles:
    """What was read: (name, bytes) for `load` and `render`, and what could not be read."""

    files: tuple[tuple[str, bytes], ...]
    problems: tuple[Problem, ...]
    directory: str


def read_config_files(main: Path, *, max_bytes: int = MAX_BYTES) -> ConfigFiles:
    """Read the main file and the drop-ins `conf.d/*.toml` beside it, in lexical order.

    Args:
        main: As the operator wrote it; places in problems are named after it.
        max_bytes: Of all files together; at most one byte more than what is left is read of any.

    Returns:
        The files, and a problem for each that cannot be read. Never raises for what a path may be.
    """
    files: list[tuple[str, bytes]] = []
    problems: list[Problem] = []
    left = max_bytes
    paths, refused = _drop_ins(main)
    for path in (main, *paths):
        try:
            raw = _read(path, left + 1)
        except (OSError, ValueError) as error:
            problems.append(_unreadable(path, error))
            continue
        files.append((str(path), raw))
        left = max(0, left - len(raw))
    return ConfigFiles(tuple(files), (*problems, *refused), os.path.abspath(main.parent))


def load_config_files(
    main: Path, *, max_bytes: int = MAX_BYTES, max_schedules: int = MAX_SCHEDULES
) -> tuple[Loaded, tuple[tuple[str, bytes], ...]]:  # fmt: skip
    """Read and judge a configuration.

    Returns:
        What became of it (`config` is None where a file could not be read), and the files for `render`.
    """
    read = read_config_files(main, max_bytes=max_bytes)
    if not read.files or read.files[0][0] != str(main):
        return Loaded(None, read.problems), read.files
    loaded = load(read.files, max_bytes=max_bytes, max_schedules=max_schedules, directory=read.directory)
    problems = (*read.problems, *loaded.problems)
    return Loaded(None if failed(problems) else loaded.config, problems, loaded.draft), read.files


def resolve_secret(secret: Secret, environ: Mapping[str, str] | None = None) -> str:
    """The secret itself; one line break at its end is not part of it.

    Args:
        environ: The environment; the process's own by default.

    Raises:
        ConfigError: It is not there, or its file may be read by others; the message never holds the secret.
    """
    environ = os.environ if environ is None else environ
    if secret.kind == "env":
        if secret.name not in environ:
            raise ConfigError(
                f"the variable {secret.name} is not set", cure="set it in the unit's environment"
            )
        return environ[secret.name]
    path = Path(secret.name)
    if secret.kind == "credential":
        path = _credential(secret.name, environ)
    try:
        raw = _read(path, MAX_SECRET + 1, private=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the secret {secret} cannot be read: {_why(error)}", cure=f"see ls -l {path}"
        ) from None
    return _secret_text(secret, raw)


def with_password(url: str, password: str) -> str:
    """The url with the password in its user part, as libpq reads it. Never log the result."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        raise ConfigError("a url with a password needs a user", cure="write postgresql://USER@host/name")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def conninfo(url: str | Secret, password: Secret | None, environ: Mapping[str, str] | None = None) -> str:
    """A database's url with everything resolved. Never log the result.

    Raises:
        ConfigError: A secret cannot be resolved.
    """
    whole = resolve_secret(url, environ) if isinstance(url, Secret) else url
    return with_password(whole, resolve_secret(password, environ)) if password else whole


def _drop_ins(main: Path) -> tuple[list[Path], list[Problem]]:
    folder = main.parent / "conf.d"
    try:
        names = sorted(
            name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith(".")
        )
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except (OSError, ValueError) as error:
        return [], [_unreadable(folder, error)]
    if len(names) > MAX_DROP_INS:
        return [], [
            _unreadable(
                folder, ValueError(f"there are {len(names)} drop-ins, and at most {MAX_DROP_INS} are read")
            )
        ]
    return [folder / name for name in names], []


def _read(path: Path, most: int, *, private: bool = False) -> bytes:
    """At most `most` bytes of a regular file; O_NONBLOCK so that opening a FIFO does not wait for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if private and status.st_mode & stat.S_IRWXO:
            raise ValueError("other users may read or change it; chmod o= makes it private")
        return file.read(most)


def _credential(name: str, environ: Mapping[str, str]) -> Path:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        cure = f"start singd by systemd with LoadCredential={name}:…, or set CREDENTIALS_DIRECTORY"
        raise ConfigError(
            f"the credential {name} is wanted, and there is no CREDENTIALS_DIRECTORY", cure=cure
        )
    return Path(folder) / name


def _secret_text(secret: Secret, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > MAX_SECRET or "\0" in text:
        raise ConfigError(
            f"the secret {secret} is empty, not text, or larger than 64 kB",
            cure="write the secret alone into it",
        )
    return text


def _unreadable(path: Path, error: Exception) -> Problem:
    cure = f"see ls -l {path}"
    return Problem("SG0008", Severity.ERROR, Place(str(path)), f"{path} cannot be read", _why(error), cure)


def _why(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
