-- The newest rows, each with its last attempt. Without a schedule "newest" is by number, which the primary
-- key answers; instants of one round of planning are close together.
-- An attempt is abandoned when it is silent (two beats and their way) and no live node is the process that began it.
SELECT o.*, a.* FROM (
    SELECT id, schedule, due_at, task, generation, owner, due_until, count, verdict, reason, retry_at, attempts,
           local_number
    FROM occurrence
    WHERE coalesce(due_until, due_at) >= coalesce(%(since)s::timestamptz, '-infinity')
    ORDER BY id DESC LIMIT %(limit)s
) o LEFT JOIN LATERAL (
    SELECT number, state, epoch, node, started_at, finished_at, error, result, claimed_at,
       finished_at IS NULL AND state = 'running'
           AND coalesce(beat_at, started_at, claimed_at) < clock_timestamp() - interval '7 seconds'
           AND process NOT IN (SELECT process FROM live_node) AS abandoned
    FROM attempt WHERE occurrence_id = o.id AND number = o.attempts
) a ON true
ORDER BY o.due_at DESC, o.id DESC
