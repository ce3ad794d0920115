SELECT a.occurrence, a.number, a.token, a.process, a.state, o.schedule, o.due_at, o.owner, o.request,
       (SELECT count(*) FROM attempt b WHERE b.occurrence = a.occurrence AND b.state IN ('failed', 'timed_out'))
FROM occurrence o JOIN attempt a ON a.occurrence = o.number AND a.number = o.attempts
WHERE o.open = 1 AND a.finished_at IS NULL
ORDER BY o.due_at, o.number
