-- Of each schedule the newest row that is over.
SELECT o.number, o.schedule, o.due_at, o.task, o.owner, due_until, count, verdict, reason, retry_at
FROM cursor c CROSS JOIN occurrence o ON o.number = (
    SELECT x.number FROM occurrence x WHERE x.schedule = c.schedule AND x.open = 0
    ORDER BY x.due_at DESC, x.number DESC LIMIT 1)
