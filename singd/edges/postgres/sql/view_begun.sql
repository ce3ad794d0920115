-- The newest row of a schedule that has an attempt, however many have waited or were skipped since.
SELECT id FROM occurrence
WHERE schedule = %(schedule)s AND attempts > 0
ORDER BY due_at DESC, id DESC LIMIT 1
