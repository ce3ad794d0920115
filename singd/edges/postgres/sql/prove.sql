-- One row, or the term is over. It writes, so a standby cannot answer; it writes to a row of its own, or
-- it would queue behind our own fenced transactions. Losing one beat in a crash costs nothing.
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
)
UPDATE leader_beat SET seen_at = clock_timestamp() FROM relaxed
WHERE NOT pg_is_in_recovery()
  AND EXISTS (SELECT FROM leader WHERE epoch = %(epoch)s AND holder = %(process)s AND backend_pid = pg_backend_pid())
  AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND pid = pg_backend_pid() AND classid = %(classid)s::oid AND objid = %(objid)s::oid)
RETURNING clock_timestamp()
