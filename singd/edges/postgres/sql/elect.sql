-- The election is this write: a standby refuses it, and it waits for every open transaction of the last term.
WITH elected AS (
    UPDATE leader SET epoch = epoch + 1, holder = %(process)s, node = %(name)s,
        backend_pid = pg_backend_pid(), elected_at = clock_timestamp()
    WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND pid = pg_backend_pid() AND classid = %(classid)s::oid AND objid = %(objid)s::oid)
    RETURNING epoch
), seen AS (
    UPDATE leader_beat b SET epoch = e.epoch, seen_at = clock_timestamp() FROM elected e
)
SELECT epoch FROM elected
