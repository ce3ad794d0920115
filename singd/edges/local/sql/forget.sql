-- Shipped long enough ago. What stands between two instants that were not shipped yet stays, so that these are
-- never taken for neighbours (make_room); and so does the newest of each schedule: the startup that is going on is
-- known by its row.
WITH waiting AS MATERIALIZED (
    SELECT schedule, min(number) AS oldest FROM occurrence WHERE shipped_at IS NULL GROUP BY schedule
)
DELETE FROM occurrence WHERE number IN (
    SELECT o.number FROM occurrence o LEFT JOIN waiting w ON w.schedule = o.schedule
    WHERE o.shipped_at < :before AND (w.oldest IS NULL OR w.oldest > o.number)
      AND EXISTS (
        SELECT 1 FROM occurrence n
        WHERE n.schedule = o.schedule AND n.owner = o.owner AND n.request = '' AND n.number > o.number)
    ORDER BY o.shipped_at LIMIT :limit)
