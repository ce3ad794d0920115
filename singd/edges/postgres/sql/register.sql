-- Under the registration lock. A node is live while some other session holds its name's lock, so a
-- registration that finds no such lock is the start of the cluster. A daemon that only lost its session and
-- comes back is told what it was told at first.
WITH others AS MATERIALIZED (
    SELECT count(*) AS live FROM node n JOIN pg_locks l
        ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid()
       AND l.classid::bigint = n.lock_key >> 32 AND l.objid::bigint = n.lock_key & 4294967295
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
), registered AS (
    INSERT INTO node AS n (name, lock_key, process, role, version, content_hash, backend_pid, registered_at, startup_at)
    SELECT %(name)s, %(key)s, %(process)s, %(role)s, %(version)s, %(content_hash)s, pg_backend_pid(), now,
           CASE WHEN live = 0 THEN now END
    FROM others CROSS JOIN clock_timestamp() AS now
    ON CONFLICT (name) DO UPDATE
        SET lock_key = excluded.lock_key, process = excluded.process, role = excluded.role,
            version = excluded.version, content_hash = excluded.content_hash, backend_pid = excluded.backend_pid, registered_at = excluded.registered_at,
            startup_at = CASE WHEN n.process = excluded.process THEN n.startup_at ELSE excluded.startup_at END
    RETURNING startup_at
), started AS (
    UPDATE leader l SET startup_at = greatest(l.startup_at, r.startup_at) FROM registered r
    WHERE r.startup_at IS NOT NULL
)
SELECT startup_at FROM registered
