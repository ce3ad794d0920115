"""Adapters behind the Protocols of `singd.ports`: each talks to one thing outside the process."""
