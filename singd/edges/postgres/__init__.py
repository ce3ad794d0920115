"""Postgres: the ledger, the election and psycopg driven by trio."""
