-- Of each schedule of the cluster the newest row that is over, with its last attempt.
SELECT o.*, a.* FROM (SELECT schedule FROM cursor WHERE owner = 'cluster') c
CROSS JOIN LATERAL (
    SELECT id, schedule, due_at, task, generation, owner, due_until, count, verdict, reason, retry_at, attempts,
           local_number
    FROM occurrence x
    WHERE x.schedule = c.schedule AND x.owner = 'cluster' AND x.verdict IS NOT NULL AND x.retry_at IS NULL
      AND NOT EXISTS (SELECT FROM attempt l WHERE l.occurrence_id = x.id AND l.finished_at IS NULL)
    ORDER BY x.due_at DESC, x.id DESC LIMIT 1
) o
LEFT JOIN LATERAL (
    SELECT number, state, epoch, node, started_at, finished_at, error, result, claimed_at, false AS abandoned
    FROM attempt WHERE occurrence_id = o.id AND number = o.attempts
) a ON true
