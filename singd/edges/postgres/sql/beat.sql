-- Rows locked by others (a task's own transaction is finishing) are skipped and count as ours.
-- A lost beat costs nothing, so its COMMIT does not wait for the disk.
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), ours AS MATERIALIZED (
    SELECT occurrence_id, number, token FROM attempt, relaxed
    WHERE token = ANY (%(tokens)s::uuid[]) AND state IN ('claimed', 'running')
), free AS MATERIALIZED (
    SELECT occurrence_id, number FROM attempt
    WHERE token = ANY (%(tokens)s::uuid[]) AND state = 'running' FOR NO KEY UPDATE SKIP LOCKED
), renewed AS (
    UPDATE attempt a SET beat_at = clock_timestamp()
    FROM free WHERE a.occurrence_id = free.occurrence_id AND a.number = free.number
)
SELECT token::text FROM ours
