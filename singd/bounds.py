"""Bounds that both ends of the control socket must agree on; imports nothing, because the client has to be quick."""

RUNS_MAX = 10_000
"""Occurrences in one answer of `singd runs`, and the most that any verb's -n takes."""
RUNS_DEFAULT = 20
RUNS_BYTES = 12 * 1024 * 1024
"""Of these as JSON: each may carry an error of 8 kB and a result of 64 kB, and an answer has at most 16 MiB."""
