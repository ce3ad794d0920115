"""Errors carry blame in their type: who has to act is the first thing a reader learns.

| type | who | what the shell does |
|---|---|---|
| ConfigError | the operator | refuse the file, keep the last good one |
| PluginError | the plugin's author | fail the attempt or mark the task unavailable |
| TermLost | nobody | step down, campaign again |
| Resigned | nobody | hand over, let another one campaign |
| NameTaken | the operator | wait, say so |
| EdgeError | the environment | retry with backoff |
| anything else | us | end the process, systemd restarts it |
"""

from __future__ import annotations


class SingdError(Exception):
    """Parent of all; `cure` tells the reader what to do, where that is known."""

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class ConfigError(SingdError):
    """The operator wrote something that cannot be."""


class PluginError(SingdError):
    """A plugin broke its side of the contract."""


class TermLost(SingdError):
    """This node's term is over: its epoch is not the current one, or it cannot prove that it is."""


class Resigned(SingdError):
    """An operator asked this node to hand leadership over."""


class NameTaken(SingdError):
    """Another live daemon has this node's name."""


class EdgeError(SingdError):
    """The world outside did not do its part: database away, program missing, disk full."""


class KeeperGone(EdgeError):
    """The keeper process died; everything it parented is being ended."""
