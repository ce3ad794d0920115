SELECT number, schedule, due_at, task, owner, due_until, count, verdict, reason, retry_at
FROM occurrence WHERE number = :number
