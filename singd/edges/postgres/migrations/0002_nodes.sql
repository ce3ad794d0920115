-- works with programs from version 1 on
-- Several nodes: who leads with what, what leadership cost, and what nodes recorded for themselves.
-- Everything added to a table has a default: a daemon that has not been upgraded yet goes on working.

ALTER TABLE node ADD COLUMN content_hash text NOT NULL DEFAULT '';
COMMENT ON COLUMN node.content_hash IS 'Of the configuration this node would lead with.';

-- A node is live while some session holds its name's lock now, however long ago it registered.
CREATE VIEW live_node AS
    SELECT n.name, n.process, n.role, n.version, n.content_hash, n.backend_pid, n.registered_at, l.pid
    FROM node n JOIN pg_locks l
        ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
       AND l.classid::bigint = n.lock_key >> 32 AND l.objid::bigint = n.lock_key & 4294967295
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- `accepted_at` says what was in force last; `proposed_at` what an operator brought in last: a takeover by a node with
-- an older file puts that one in force, and leaves the newer one the newest.
ALTER TABLE generation ADD COLUMN proposed_at timestamptz NOT NULL DEFAULT clock_timestamp();
UPDATE generation SET proposed_at = accepted_at;

CREATE TABLE term (
    epoch         bigint PRIMARY KEY,
    node          text NOT NULL,
    process       uuid NOT NULL,
    elected_at    timestamptz NOT NULL,
    last_seen_at  timestamptz                -- the last heartbeat of the term before; null = there was none
);
COMMENT ON TABLE term IS 'One row a change of leader: elected_at - last_seen_at is how long nobody led.';

-- What a node recorded in its local journal is known there by a number of its own.
ALTER TABLE occurrence ADD COLUMN local_number bigint;
CREATE UNIQUE INDEX occurrence_local ON occurrence (owner, local_number, origin) WHERE local_number IS NOT NULL;
