"""The pure core: frozen values and total functions. No clock, no I/O, no randomness, no trio.

`import-linter` holds this (see `pyproject.toml`); the tests of this package are tables.
"""
