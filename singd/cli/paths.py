"""Where things are: every rule of the contract's "Paths" in one place, for the daemon and its clients.

| what | root, or a service | a user |
|---|---|---|
| configuration | /etc/singd/singd.toml | $XDG_CONFIG_HOME/singd/singd.toml |
| state | /var/lib/singd | $XDG_STATE_HOME/singd |
| runtime (the socket) | /run/singd | $XDG_RUNTIME_DIR/singd, or `run` in the state directory |

The first of these that is set decides: the option or its SINGD_ variable, the directories systemd made for a unit
called singd, the XDG variables (for root too), the table. `--state DIR` moves the socket to DIR/run as well,
so a client with the same `--state` finds it. A client that was told nothing also looks for the machine's
own daemon, so an operator in its group needs no options.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOCKET = "singd.sock"
MAIN_FILE = "singd.toml"
_SYSTEM = {"config": Path("/etc/singd"), "state": Path("/var/lib/singd"), "runtime": Path("/run/singd")}
_UNIT = {"config": "CONFIGURATION_DIRECTORY", "state": "STATE_DIRECTORY", "runtime": "RUNTIME_DIRECTORY"}
_XDG = {"config": "XDG_CONFIG_HOME", "state": "XDG_STATE_HOME", "runtime": "XDG_RUNTIME_DIR"}
_HOME = {"config": ".config", "state": ".local/state"}
_PLUGINS = (Path("/usr/lib/singd/plugins"), Path("/usr/local/lib/singd/plugins"))


@dataclass(frozen=True, slots=True)
class Paths:
    """Absolute paths of one daemon.

    Attributes:
        config: Its main file.
        state: Everything it writes is under here.
        runtime: Directory of its socket.
        fallback: The runtime directory of the machine's own daemon, where a client may look too; None where the
            caller said which daemon is meant.
        private: A user's own daemon: nobody else has business in its directories.
        plugins: Directories beside site-packages that plugins may be in; only those that can be trusted.
    """

    config: Path
    state: Path
    runtime: Path
    fallback: Path | None = None
    private: bool = False
    plugins: tuple[Path, ...] = ()

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.runtime / SOCKET

    @property
    def sockets(self) -> tuple[Path, ...]:
        """Where a client looks for a daemon, in this order."""
        others = () if self.fallback in (None, self.runtime) else (self.fallback / SOCKET,)
        return (self.socket, *others)

    def make(self) -> None:
        """Create the state and runtime directories that are missing, for their owner (and a service's group) only.

        Root's embedded Postgres runs as another account, which must pass through the state directory (not list it);
        what is private in there has a mode of its own.

        Raises:
            OSError: One cannot be made.
        """
        mode = 0o700 if self.private else 0o750
        if not self.state.exists():
            self.state.mkdir(mode=mode, parents=True)
            self.state.chmod(0o711 if os.geteuid() == 0 else mode)  # whatever the umask is
        self.runtime.mkdir(mode=mode, parents=True, exist_ok=True)


def find(
    *,
    config: str | os.PathLike[str] | None = None,
    state: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> Paths:
    """The paths that hold for this process.

    Args:
        config: `--config`: a file, or a directory with a `singd.toml`. None or "": by variable or rule.
        state: `--state`: a directory. None or "": by variable or rule.
        environ, uid: Default: this process's.
    """
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    state = state or environ.get("SINGD_STATE")
    told = Path(os.path.abspath(state)) if state else None
    state_dir = told or _directory("state", environ, uid) or _home(environ) / _HOME["state"] / "singd"
    runtime = told / "run" if told else _directory("runtime", environ, uid) or state_dir / "run"
    return Paths(
        config=_config(config or environ.get("SINGD_CONFIG"), environ, uid),
        state=state_dir,
        runtime=runtime,
        fallback=None if told else _SYSTEM["runtime"],
        private=runtime != _SYSTEM["runtime"] and not _of_unit("runtime", environ),
        plugins=_plugin_directories(state_dir, uid),
    )


def add_options(parser: object) -> None:
    """`--config` and `--state`, as every verb takes them; a parser of argparse's kind."""
    add = parser.add_argument  # type: ignore[attr-defined]
    add("-c", "--config", metavar="FILE", help="the configuration's main file")
    add("--state", metavar="DIR", help="the daemon's state directory")


def _config(told: str | os.PathLike[str] | None, environ: Mapping[str, str], uid: int) -> Path:
    """The main file. Where a user has none of their own, the machine's is meant."""
    if told:
        path = Path(os.path.abspath(told))
        return path / MAIN_FILE if path.is_dir() else path
    own = (_directory("config", environ, uid) or _home(environ) / _HOME["config"] / "singd") / MAIN_FILE
    system = _SYSTEM["config"] / MAIN_FILE
    return system if not own.exists() and system.exists() else own


def _directory(what: str, environ: Mapping[str, str], uid: int) -> Path | None:
    """By systemd, by XDG, by being root; None for a user whom nothing tells."""
    base = environ.get(_XDG[what], "")
    if unit := _of_unit(what, environ):
        return unit
    if os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        return Path(base) / "singd"
    return _SYSTEM[what] if uid == 0 else None


def _of_unit(what: str, environ: Mapping[str, str]) -> Path | None:
    """The directory that systemd made for a unit of ours; another unit's script calling us has its own there."""
    paths = map(Path, environ.get(_UNIT[what], "").split(":"))
    return next((path for path in paths if path.is_absolute() and path.name == "singd"), None)


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "")
    return Path(home) if os.path.isabs(home) else Path.home()


def _plugin_directories(state: Path, uid: int) -> tuple[Path, ...]:
    """That the system's directories belong to root is the allow-list; a user's own daemon trusts its user too."""
    trusted = [path for path in _PLUGINS if _only_writable_by(path, {0})]
    own = [state / "plugins"] if uid != 0 and _only_writable_by(state / "plugins", {0, uid}) else []
    return tuple(trusted + own)


def _only_writable_by(path: Path, uids: set[int]) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid in uids and not found.st_mode & 0o022
