-- The election is this write: a standby refuses it, and it waits for every open transaction of the last term.
-- Where a live node has the newest generation and this one has not, nothing is written: the second column says so.
-- The newest is the one that an operator brought in last, not the one in force last: a takeover changes the latter.
WITH newest AS MATERIALIZED (
    SELECT content_hash FROM generation ORDER BY proposed_at DESC, id DESC LIMIT 1
), preferred AS MATERIALIZED (
    SELECT FROM newest g JOIN live_node n USING (content_hash)
    WHERE %(may_yield)s AND g.content_hash <> %(content_hash)s AND n.process <> %(process)s
), before AS MATERIALIZED (
    SELECT nullif(seen_at, '-infinity') AS seen_at FROM leader_beat
), elected AS (
    UPDATE leader SET epoch = epoch + 1, holder = %(process)s, node = %(name)s,
        backend_pid = pg_backend_pid(), elected_at = clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM preferred)
      AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND pid = pg_backend_pid() AND classid = %(classid)s::oid AND objid = %(objid)s::oid)
    RETURNING epoch, elected_at
), seen AS (
    UPDATE leader_beat b SET epoch = e.epoch, seen_at = clock_timestamp() FROM elected e
), noted AS (
    INSERT INTO term (epoch, node, process, elected_at, last_seen_at)
    SELECT e.epoch, %(name)s, %(process)s, e.elected_at, b.seen_at FROM elected e CROSS JOIN before b
    ON CONFLICT DO NOTHING -- a leader's row that was restored from an older backup keeps nobody from leading
), forgotten AS (
    DELETE FROM term WHERE epoch <= (SELECT epoch - 1000 FROM elected)
)
SELECT (SELECT epoch FROM elected), EXISTS (SELECT FROM preferred)
