INSERT INTO attempt_log (occurrence, number, head, tail, dropped)
SELECT occurrence, number, :head, :tail, :dropped FROM attempt WHERE token = :token
ON CONFLICT (occurrence, number) DO UPDATE
    SET head = excluded.head, tail = excluded.tail, dropped = excluded.dropped
