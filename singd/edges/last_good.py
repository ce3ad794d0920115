"""The last configuration that was accepted from a path, kept beside the state.

A daemon that starts on a wrong file runs this one instead, and says so loudly: no edit can leave a machine without its
schedules. It holds what the operator wrote, so secrets only as references.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

Files = Sequence[tuple[str, bytes]]


def save(state_dir: Path, main: Path, files: Files) -> None:
    """Keep the files of an accepted configuration; atomic, for this user only.

    Raises:
        OSError: The state directory cannot be written.
    """
    target = _path(state_dir, main)
    target.parent.mkdir(mode=0o700, exist_ok=True)
    document = json.dumps([[name, raw.decode()] for name, raw in files])
    if target.exists() and target.read_text() == document:
        return
    descriptor, temporary = tempfile.mkstemp(dir=target.parent)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(document)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def load(state_dir: Path, main: Path) -> Files | None:
    """The files that were kept for this path; None if there are none, or they cannot be read as such."""
    try:
        document = json.loads(_path(state_dir, main).read_text())
        return [(str(name), str(text).encode()) for name, text in document]
    except (OSError, ValueError, TypeError):
        return None


def _path(state_dir: Path, main: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(os.path.abspath(main))).hexdigest()[:16]
    return state_dir / "accepted" / f"{digest}.json"
