SELECT o.number, o.schedule, o.due_at, o.owner, o.request, o.attempts, o.retry_at,
       (SELECT count(*) FROM attempt a WHERE a.occurrence = o.number AND a.state IN ('failed', 'timed_out'))
FROM occurrence o WHERE o.open = 1 AND (o.verdict IS NULL OR o.retry_at IS NOT NULL)
ORDER BY o.due_at, o.number
