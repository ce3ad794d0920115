"""The roles' passwords: random, in one 0600 file of the daemon's, nowhere else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from singd.edges.embedded.home import Home, write_durably
from singd.edges.embedded.roles import ROLES
from singd.errors import EdgeError


def load_or_make(home: Home) -> Mapping[str, str]:
    """Login -> password.

    Written before the cluster is made, so that there is never one nobody can log in to.

    Raises:
        EdgeError: A cluster is there and its passwords are not, or cannot be read.
    """
    if home.credentials.exists():
        return load(home)
    if home.data.exists():
        raise EdgeError(f"{home.credentials} is missing: nobody can log in to the cluster in {home.data}",
                        cure="restore that file; or move the data directory away and restore a backup")  # fmt: skip
    made = {login: secrets.token_urlsafe(32) for login in ROLES.values()}
    write_durably(home.credentials, json.dumps(made, indent=1).encode(), 0o600)
    return made


def load(home: Home) -> Mapping[str, str]:
    """Login -> password, of a cluster that is there.

    Raises:
        EdgeError: They are not there, or cannot be read.
    """
    try:
        found = json.loads(home.credentials.read_bytes())
        return {login: str(found[login]) for login in ROLES.values()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeError(f"{home.credentials} cannot be used: {type(error).__name__}",
                        cure="restore that file from a copy") from None  # fmt: skip
