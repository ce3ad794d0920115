-- Under the registration lock. A registration that finds no other live node is the start of the cluster. A daemon that
-- only lost its session and comes back is told what it was told at first.
WITH others AS MATERIALIZED (
    SELECT count(*) AS live FROM live_node WHERE pid <> pg_backend_pid()
), registered AS (
    INSERT INTO node AS n (name, lock_key, process, role, version, content_hash, backend_pid, registered_at, startup_at)
    SELECT %(name)s, %(key)s, %(process)s, %(role)s, %(version)s, %(content_hash)s, pg_backend_pid(), now,
           CASE WHEN live = 0 THEN now END
    FROM others CROSS JOIN clock_timestamp() AS now
    ON CONFLICT (name) DO UPDATE
        SET lock_key = excluded.lock_key, process = excluded.process, role = excluded.role,
            version = excluded.version, content_hash = excluded.content_hash, backend_pid = excluded.backend_pid,
            registered_at = excluded.registered_at,
            startup_at = CASE WHEN n.process = excluded.process THEN n.startup_at ELSE excluded.startup_at END
    RETURNING startup_at
), started AS (
    UPDATE leader l SET startup_at = greatest(l.startup_at, r.startup_at) FROM registered r
    WHERE r.startup_at IS NOT NULL
)
SELECT startup_at FROM registered
