-- The oldest that are over. What is still open is passed over; it is shipped when it is done.
SELECT o.number, o.schedule, o.owner, o.due_at, o.due_until, o.count, o.request, o.task,
       coalesce(g.content_hash, ''), o.verdict,
       o.reason, o.recorded_at
FROM occurrence o LEFT JOIN generation g ON g.id = o.generation
WHERE o.shipped_at IS NULL AND o.open = 0
ORDER BY o.number LIMIT :limit
