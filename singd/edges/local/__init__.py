"""The node's local journal: the ledger of `scope = "node"`, a file in the state directory, there without Postgres."""
