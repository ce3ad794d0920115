"""Dumps databases into sets that are complete, verified and on disk, or not there at all."""
