"""The name this daemon goes by: the variable wins over the file, and the host's name is the default."""

from __future__ import annotations

import os
import socket

from singd.cli.output import CONFIG, CommandError
from singd.core.config.model import Config
from singd.core.config.problems import Wrong
from singd.core.config.readers import node_name

VARIABLE = "SINGD_NODE_NAME"


def node_name_of(config: Config) -> str:
    """The node's name.

    Raises:
        CommandError: It cannot be one (78).
    """
    try:
        return node_name(os.environ.get(VARIABLE) or config.node.name or socket.gethostname())
    except Wrong as wrong:
        raise CommandError(
            f"{wrong.message.format(key='the name of this node')}: {wrong.reason}",
            cure=f"{wrong.cure}: {VARIABLE}, or name in [node]",
            exit=CONFIG,
        ) from None
