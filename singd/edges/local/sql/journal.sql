-- The local journal, format 1: the ledger's tables (migrations/0001_ledger.sql), as far as one node needs them.
-- Instants are whole microseconds since the Unix epoch. AUTOINCREMENT: a number is never given twice, because
-- the ledger knows a shipped row by it.

CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE generation (id INTEGER PRIMARY KEY, content_hash TEXT NOT NULL UNIQUE) STRICT;

-- Of the generation accepted last: what it is compared with is what was in force before.
CREATE TABLE trigger_in_force (schedule TEXT PRIMARY KEY, identity TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE cursor (schedule TEXT PRIMARY KEY, due_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE occurrence (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule    TEXT NOT NULL,
    owner       TEXT NOT NULL,
    due_at      INTEGER NOT NULL,
    due_until   INTEGER,
    count       INTEGER NOT NULL,
    request     TEXT NOT NULL,
    task        TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    verdict     TEXT CHECK (verdict IN ('ran', 'skipped', 'missed', 'superseded')),
    reason      TEXT NOT NULL,
    attempts    INTEGER NOT NULL,               -- the number of its newest attempt
    retry_at    INTEGER,
    open        INTEGER NOT NULL,               -- 1 while something is still to come
    recorded_at INTEGER NOT NULL,
    shipped_at  INTEGER,
    CONSTRAINT identity UNIQUE (schedule, due_at, owner, request),
    CONSTRAINT ranges_never_ran CHECK (
        due_until IS NULL AND count = 1
        OR due_until >= due_at AND count >= 1 AND verdict IN ('skipped', 'missed', 'superseded')),
    CONSTRAINT every_verdict_but_ran_has_a_reason CHECK (verdict IS NULL OR verdict = 'ran' OR reason <> ''),
    CONSTRAINT only_what_ran_runs_again CHECK (retry_at IS NULL OR verdict = 'ran'),
    CONSTRAINT only_what_is_over_is_shipped CHECK (shipped_at IS NULL OR open = 0)
) STRICT;
CREATE INDEX occurrence_open ON occurrence (due_at, number) WHERE open = 1;
CREATE INDEX occurrence_unshipped ON occurrence (open, number) WHERE shipped_at IS NULL;
CREATE INDEX occurrence_shipped ON occurrence (shipped_at) WHERE shipped_at IS NOT NULL;

CREATE TABLE attempt (
    occurrence  INTEGER NOT NULL REFERENCES occurrence ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    token       TEXT NOT NULL UNIQUE,
    node        TEXT NOT NULL,
    process     TEXT NOT NULL,                  -- the daemon that claimed it
    state       TEXT NOT NULL CHECK (state IN ('claimed', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')),
    claimed_at  INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    error       TEXT NOT NULL,
    result      TEXT,
    PRIMARY KEY (occurrence, number),
    CONSTRAINT terminal_is_finished CHECK ((finished_at IS NULL) = (state IN ('claimed', 'running')))
) STRICT;

CREATE TABLE attempt_log (
    occurrence  INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    head        BLOB NOT NULL,
    tail        BLOB NOT NULL,
    dropped     INTEGER NOT NULL,
    PRIMARY KEY (occurrence, number),
    FOREIGN KEY (occurrence, number) REFERENCES attempt ON DELETE CASCADE
) STRICT;

-- As in the ledger: a terminal attempt never changes, but for `lost`, once.
CREATE TRIGGER attempt_is_over BEFORE UPDATE ON attempt
    WHEN OLD.finished_at IS NOT NULL AND NOT (
        OLD.state = 'lost' AND NEW.state IN ('succeeded', 'failed', 'timed_out', 'cancelled') AND NEW.token = OLD.token)
BEGIN
    SELECT RAISE(ABORT, 'this attempt is over');
END;
