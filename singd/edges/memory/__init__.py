"""In-memory twins of the Postgres edge, proved alike by `tests/conformance/`.

database = MemoryDatabase()
presence, election = MemoryPresence(database), MemoryElection(database)
ledger, reader = MemoryLedger(database), MemoryReader(database)
database.cut("record", "reply")     # the next record commits, and its answer is lost on the way
database.stop(); database.start()   # the server goes away, and comes back without its sessions
"""

from singd.edges.memory.database import Link, MemoryDatabase
from singd.edges.memory.election import MemoryElection, MemoryPresence
from singd.edges.memory.ledger import MemoryLedger
from singd.edges.memory.reader import MemoryReader

__all__ = ["Link", "MemoryDatabase", "MemoryElection", "MemoryLedger", "MemoryPresence", "MemoryReader"]
