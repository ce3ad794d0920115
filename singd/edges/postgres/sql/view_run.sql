-- One row with every attempt.
SELECT o.id, o.schedule, o.due_at, o.task, o.generation, o.owner, o.due_until, o.count, o.verdict, o.reason,
       o.retry_at, o.attempts, a.number, a.state, a.epoch, a.node, a.started_at, a.finished_at, a.error,
       a.result, a.claimed_at
FROM occurrence o LEFT JOIN attempt a ON a.occurrence_id = o.id
WHERE o.id = %(id)s ORDER BY a.number
