-- The newest rows; without a schedule "newest" is by number, which the primary key answers.
SELECT * FROM (
    SELECT number, schedule, due_at, task, owner, due_until, count, verdict, reason, retry_at
    FROM occurrence WHERE coalesce(due_until, due_at) >= :since ORDER BY number DESC LIMIT :limit)
ORDER BY due_at DESC, number DESC
