-- Shipped long enough ago. What stands between two instants that were not shipped yet stays, so that these are
-- never taken for neighbours (make_room).
DELETE FROM occurrence WHERE number IN (
    SELECT o.number FROM occurrence o
    WHERE o.shipped_at < :before AND NOT EXISTS (
        SELECT 1 FROM occurrence u WHERE u.shipped_at IS NULL AND u.schedule = o.schedule AND u.number < o.number)
    ORDER BY o.shipped_at LIMIT :limit)
