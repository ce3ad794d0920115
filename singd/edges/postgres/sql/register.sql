-- Under the registration lock. A node is live while some other session holds its name's lock, so a
-- registration that finds no such lock is the start of the cluster; a daemon that only lost its session
-- and comes back is no start.
WITH others AS MATERIALIZED (
    SELECT count(*) AS live FROM node n JOIN pg_locks l
        ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid()
       AND l.classid::bigint = n.lock_key >> 32 AND l.objid::bigint = n.lock_key & 4294967295
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
), registered AS (
    INSERT INTO node (name, lock_key, process, role, version, backend_pid, registered_at)
    VALUES (%(name)s, %(key)s, %(process)s, %(role)s, %(version)s, pg_backend_pid(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE
        SET lock_key = excluded.lock_key, process = excluded.process, role = excluded.role,
            version = excluded.version, backend_pid = excluded.backend_pid, registered_at = excluded.registered_at
), started AS (
    UPDATE leader SET startup_at = clock_timestamp() FROM others
    WHERE others.live = 0 AND NOT EXISTS (SELECT FROM node WHERE name = %(name)s AND process = %(process)s)
    RETURNING startup_at
)
SELECT (SELECT startup_at FROM started)
