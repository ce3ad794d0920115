-- Several nodes: who leads with what, what leadership cost, and what nodes recorded for themselves.
-- Programs of version 1 go on working: everything added has a default.

ALTER TABLE node ADD COLUMN content_hash text NOT NULL DEFAULT '';
COMMENT ON COLUMN node.content_hash IS 'Of the configuration this node would lead with.';

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
CREATE UNIQUE INDEX occurrence_local ON occurrence (owner, origin, local_number) WHERE local_number IS NOT NULL;
