-- What waits: no verdict yet, or a retry to come, and nobody at it.
SELECT o.id, o.schedule, o.due_at, o.owner, o.request, o.attempts,
       (SELECT count(*) FROM attempt a WHERE a.occurrence_id = o.id AND a.state IN ('failed', 'timed_out')),
       o.retry_at
FROM occurrence o
WHERE o.owner = 'cluster' AND (o.verdict IS NULL OR o.retry_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM attempt a WHERE a.occurrence_id = o.id AND a.finished_at IS NULL)
ORDER BY o.due_at, o.id
