-- What the attempts wrote; in the transaction that ended them.
INSERT INTO attempt_log (occurrence_id, number, head, tail, dropped)
SELECT a.occurrence_id, a.number, t.head, t.tail, t.dropped
FROM unnest(%(tokens)s::uuid[], %(heads)s::bytea[], %(tails)s::bytea[], %(drops)s::bigint[]) AS t (token, head, tail, dropped)
JOIN attempt a USING (token)
ON CONFLICT (occurrence_id, number) DO UPDATE SET head = excluded.head, tail = excluded.tail, dropped = excluded.dropped
