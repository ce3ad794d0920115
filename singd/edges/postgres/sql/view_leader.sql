-- Who led last, by its own word, by whether its beats go on, and by whether it has the lock.
SELECT l.epoch, coalesce(l.node, ''), coalesce(l.holder::text, ''), l.elected_at,
       extract(epoch FROM clock_timestamp() - b.seen_at)::float8,
       EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid = l.backend_pid
           AND classid = %(classid)s::oid AND objid = %(objid)s::oid
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
FROM leader l CROSS JOIN leader_beat b WHERE b.epoch = l.epoch AND l.epoch > 0
