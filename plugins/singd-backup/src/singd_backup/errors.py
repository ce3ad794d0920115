"""The one error of this plugin."""

from __future__ import annotations


class BackupFailed(Exception):
    """No set was made, or a set does not restore. What was there before is untouched."""
