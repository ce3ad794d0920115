-- One row with every attempt.
-- An attempt is abandoned when it is silent (two beats and their way) and no live node is the process that began it.
SELECT o.id, o.schedule, o.due_at, o.task, o.generation, o.owner, o.due_until, o.count, o.verdict, o.reason,
       o.retry_at, o.attempts, o.local_number, a.number, a.state, a.epoch, a.node, a.started_at, a.finished_at, a.error,
       a.result, a.claimed_at,
       a.finished_at IS NULL AND a.state = 'running'
           AND coalesce(a.beat_at, a.started_at, a.claimed_at) < clock_timestamp() - interval '7 seconds'
           AND a.process NOT IN (SELECT process FROM live_node) AS abandoned
FROM occurrence o LEFT JOIN attempt a ON a.occurrence_id = o.id
WHERE o.id = %(id)s ORDER BY a.number
