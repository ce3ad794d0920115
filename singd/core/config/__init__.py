"""The configuration: TOML text in, a frozen value or every problem with its place out. Pure.

    files -> guard -> tomllib -> merge -> key tables -> Config  -> bind -> schedules whose arguments were checked
     bytes   size,     values    drop-    every key    frozen      catalogue
             shape               ins      judged
                                            |                        |
                                            +-> Problems <-----------+
                                     place by tree-sitter, only when there is one

Reading files and resolving secrets is the edge's part: `singd.edges.config_files`.
"""

from singd.core.config.binding import Bound, bind
from singd.core.config.guard import MAX_BYTES
from singd.core.config.loading import MAX_SCHEDULES, load
from singd.core.config.model import EMBEDDED, Config, Database, LedgerDatabase, Loaded, Node, Secret, Service
from singd.core.config.problems import CODES, Problem, Severity, failed
from singd.core.config.render import as_json, render

__all__ = [
    "CODES", "EMBEDDED", "MAX_BYTES", "MAX_SCHEDULES", "Bound", "Config", "Database", "LedgerDatabase", "Loaded", "Node", "Problem",
    "Secret", "Service", "Severity", "as_json", "bind", "failed", "load", "render",
]  # fmt: skip
