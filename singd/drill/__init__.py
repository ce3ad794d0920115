"""`singd drill`: failover proved on the operator's own database, by real daemons in a scratch schema.

scratch   the schema: made, read, dropped; what its clock says          psycopg
nodes     daemons as processes: started, killed, frozen, ended          subprocess
faults    one fault, done to the leader, measured, healed               trio
rounds    the life of a drill: up, faults, settled, down, counted       trio
tally     every instant counted against the ledger and the witness      pure
gaps      how long nobody led: figures, promises, histogram             pure
words     all of it for people and machines                             pure
"""
