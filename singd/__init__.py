"""singd: a scheduler and supervisor for one machine or several, with a ledger in Postgres."""

__version__ = "0.1.0"
