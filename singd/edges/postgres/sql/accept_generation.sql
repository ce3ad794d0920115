-- The same content is the same generation, also after a restart; the one accepted last is the newest.
WITH fence AS MATERIALIZED (
    SELECT node FROM leader WHERE epoch = %(epoch)s FOR SHARE
), again AS (
    UPDATE generation g SET accepted_at = clock_timestamp(), node = f.node FROM fence f
    WHERE content_hash = %(hash)s RETURNING id
), made AS (
    INSERT INTO generation (content_hash, accepted_at, node, schedules)
    SELECT %(hash)s, clock_timestamp(), node, %(schedules)s FROM fence WHERE NOT EXISTS (SELECT FROM again)
    ON CONFLICT (content_hash) DO UPDATE SET accepted_at = excluded.accepted_at
    RETURNING id
)
SELECT (SELECT count(*) FROM fence), (SELECT id FROM again UNION ALL SELECT id FROM made)
