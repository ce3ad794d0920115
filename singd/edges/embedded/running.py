"""How to log in to an embedded server that a daemon runs already, by what its home says. Nothing is made or changed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from psycopg.conninfo import make_conninfo

from singd.edges.embedded import credentials
from singd.edges.embedded.home import Home
from singd.edges.embedded.roles import ROLES
from singd.errors import EdgeError

_PLACES = re.compile(r"^(port|unix_socket_directories|listen_addresses) = '(.*)'$", re.MULTILINE)


def conninfo(state: Path, database: str, role: str) -> str:
    """libpq connection string, password included: never log it.

    Raises:
        EdgeError: There is no such server, or its files may not be read.
    """
    home = Home(Path(os.path.realpath(state)) / "postgres")
    try:
        places = dict(_PLACES.findall(home.config.read_text()))
    except OSError as error:
        raise EdgeError(
            f"{home.config} cannot be read: {error.strerror}",
            cure="be root, or the account whose daemon this is; a daemon that never ran has none",
        ) from None
    passwords = credentials.load(home)
    tcp = places.get("listen_addresses", "")
    return make_conninfo(
        host=tcp or str(home.run), port=places["port"], dbname=database, user=ROLES[role], password=passwords[ROLES[role]],
        require_auth="scram-sha-256", gssencmode="disable",
    )  # fmt: skip
