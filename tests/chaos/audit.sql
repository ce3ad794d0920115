-- The ledger's own diary, for the checker: every change of a row that matters, with its transaction. Written by triggers
-- that the daemons know nothing of; the time of a transaction is its commit's (track_commit_timestamp).
CREATE SCHEMA chaos;
CREATE TABLE chaos.audit (
    n      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    what   text NOT NULL,
    epoch  bigint,
    id     bigint,
    number integer,
    key    text NOT NULL DEFAULT '',
    was    text NOT NULL DEFAULT '',
    became text NOT NULL DEFAULT ''
);

CREATE FUNCTION chaos.leader() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.audit (what, epoch, key, was, became)
        VALUES ('leader', NEW.epoch, NEW.holder::text, OLD.epoch::text, NEW.node);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER UPDATE ON singd.leader FOR EACH ROW
    WHEN (NEW.epoch IS DISTINCT FROM OLD.epoch) EXECUTE FUNCTION chaos.leader();

CREATE FUNCTION chaos.occurrence() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.audit (what, epoch, id, key, was, became)
        VALUES ('occurrence', NEW.epoch, NEW.id, NEW.schedule || ' ' || to_char(NEW.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
                CASE WHEN TG_OP = 'INSERT' THEN 'new' ELSE coalesce(OLD.verdict, 'open') END, coalesce(NEW.verdict, 'open'));
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_new AFTER INSERT ON singd.occurrence FOR EACH ROW EXECUTE FUNCTION chaos.occurrence();
CREATE TRIGGER chaos AFTER UPDATE ON singd.occurrence FOR EACH ROW
    WHEN (NEW.verdict IS DISTINCT FROM OLD.verdict) EXECUTE FUNCTION chaos.occurrence();

CREATE FUNCTION chaos.attempt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.audit (what, epoch, id, number, key, was, became)
        VALUES ('attempt', NEW.epoch, NEW.occurrence_id, NEW.number, NEW.token::text,
                CASE WHEN TG_OP = 'INSERT' THEN 'new' ELSE OLD.state END, NEW.state);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_new AFTER INSERT ON singd.attempt FOR EACH ROW EXECUTE FUNCTION chaos.attempt();
CREATE TRIGGER chaos AFTER UPDATE ON singd.attempt FOR EACH ROW
    WHEN (NEW.state IS DISTINCT FROM OLD.state OR NEW.finished_at IS DISTINCT FROM OLD.finished_at)
    EXECUTE FUNCTION chaos.attempt();

CREATE FUNCTION chaos.cursor() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.audit (what, key, was, became)
        VALUES ('cursor', NEW.schedule, CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.due_at::text END, NEW.due_at::text);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON singd.cursor FOR EACH ROW EXECUTE FUNCTION chaos.cursor();
