-- The attempts with these tokens: after opening them, what we hold.
SELECT a.occurrence_id, a.number, a.token::text, a.epoch, o.schedule, o.due_at, o.owner, o.request
FROM attempt a JOIN occurrence o ON o.id = a.occurrence_id
WHERE a.token = ANY (%(tokens)s::uuid[])
