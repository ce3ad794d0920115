"""The `singd` program: one file a verb; the only place where edges are chosen."""
