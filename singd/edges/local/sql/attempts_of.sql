-- Newest first, with the size of what is kept of its output.
SELECT a.number, a.token, a.process, a.state, a.claimed_at, a.started_at, a.finished_at, a.error, a.result,
       coalesce(length(l.head) + length(l.tail), 0)
FROM attempt a LEFT JOIN attempt_log l ON l.occurrence = a.occurrence AND l.number = a.number
WHERE a.occurrence = :number ORDER BY a.number DESC
