-- The newest row of an owner (null = anybody) that has an attempt, however many have waited or were skipped since.
SELECT id FROM occurrence
WHERE schedule = %(schedule)s AND attempts > 0 AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY due_at DESC, id DESC LIMIT 1
