SELECT number, schedule, due_at, task, owner, due_until, count, verdict, reason, retry_at
FROM occurrence WHERE schedule = :schedule AND coalesce(due_until, due_at) >= :since
ORDER BY due_at DESC, number DESC LIMIT :limit
