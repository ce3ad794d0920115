"""References to secrets, and urls that must not hold one (requirement S7: secrets by reference only)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from singd.core.config.model import EMBEDDED, Secret
from singd.core.config.problems import Wrong, did_you_mean, listing
from singd.core.config.readers import kind, text

KINDS = ("credential", "env", "file")
_PLAIN = {
    "credential": (
        re.compile(r"[A-Za-z0-9_@:-][A-Za-z0-9_.@:-]{0,254}\Z"),
        "the plain name of a credential, without a path",
    ),
    "env": (re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z"), "the name of an environment variable"),
    "file": (re.compile(r"/[^\0\n]{1,4095}\Z"), "an absolute path"),
}
_PASSWORD_PARAMETERS = ("password", "sslpassword", "pass", "passwd", "token")
_REFERENCE_CURE = 'write {key} = {credential = "…"} (or env, or file) and keep the secret there'


def secret(value: Any) -> Secret:
    """`{credential = "x"}`, `{env = "X"}` or `{file = "/p"}`; a literal is refused."""
    if isinstance(value, str):
        raise Wrong(
            "SG0501",
            "{key} stands in the file",
            "a configuration is copied, mailed and logged",
            _REFERENCE_CURE,
            secret=True,
        )
    if not isinstance(value, dict) or len(value) != 1:
        raise Wrong(
            "SG0502",
            f"{{key}} must be one reference to a secret, not {kind(value)}",
            "",
            _REFERENCE_CURE,
            secret=True,
        )
    (where, word) = next(iter(value.items()))
    if where not in KINDS:
        raise Wrong(
            "SG0502",
            f'a secret cannot be kept in "{where[:40]}"',
            f"it is {listing(KINDS, 'or')}",
            did_you_mean(where, KINDS),
        )
    pattern, meant = _PLAIN[where]
    if not isinstance(word, str) or not pattern.match(word):
        raise Wrong(
            "SG0502",
            f"the {where} of {{key}} must be {meant}",
            "",
            f'write {{key}} = {{{where} = "…"}}',
            inside=(where,),
            secret=True,
        )
    return Secret(where, word)


def url(*schemes: str) -> Callable[[Any], str | Secret]:
    """A reader of `"embedded"`, a url of one of the schemes without a password, or a reference to a whole url."""

    def read(value: Any) -> str | Secret:
        if isinstance(value, dict):
            return secret(value)
        found = text(value)
        if found == EMBEDDED:
            return found
        scheme, separator, rest = found.partition("://")
        if _has_password(found, scheme, rest):
            cure = 'leave the password out and write password = {credential = "…"}, or {key} = {credential = "…"} for the whole url'
            raise Wrong(
                "SG0501",
                "{key} holds a password",
                "a configuration is copied, mailed and logged",
                cure,
                secret=True,
            )
        if not separator or scheme not in schemes or not rest:
            known = listing([EMBEDDED, *(f"{scheme}://…" for scheme in schemes)], "or")
            raise Wrong(
                "SG0105",
                "{key} is not a url that can be used",
                f"it is {known}",
                "mend the url",
                secret=True,
            )
        return found

    return read


def _has_password(whole: str, scheme: str, rest: str) -> bool:
    """Whether a url (or a libpq keyword string) holds a password: in its user part or in a parameter.

    Wider than any one parser of urls: an unescaped "/" or "?" in a password must not hide it. In a url of NATS a user
    alone is a token.
    """
    before, _, after = rest.partition("?")
    user = (rest if "@" in after.partition("=")[0] else before).rpartition("@")[0]
    keys = {key.lower() for key, _ in parse_qsl(after, keep_blank_values=True)}
    keyword = re.search(r"(?:^|\s)(?:ssl)?password\s*=", whole, re.IGNORECASE)
    token = bool(user) and scheme in ("nats", "tls")
    return ":" in user or token or not keys.isdisjoint(_PASSWORD_PARAMETERS) or keyword is not None
