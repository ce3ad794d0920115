-- The row that covers an instant: its own, or the range that spans it. Rows of one schedule hardly overlap,
-- so it is among the nearest before; the bound keeps an instant that nobody recorded from reading them all.
SELECT id FROM (
    SELECT id, due_at, due_until, owner, request FROM occurrence
    WHERE schedule = %(schedule)s AND due_at <= %(at)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)
    ORDER BY due_at DESC LIMIT 1000
) near
WHERE due_at = %(at)s OR due_until >= %(at)s
ORDER BY due_at = %(at)s DESC, owner = 'cluster' DESC, request = '' DESC, due_at DESC, id LIMIT 1
