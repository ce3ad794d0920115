-- The same content is the same generation, also after a restart: `proposed_at` stays, so a takeover with an older file
-- makes that file no newer. What is new in it, or has another trigger than in the one in force before (the one accepted
-- last), begins now: its cursor moves with the acceptance.
WITH fence AS MATERIALIZED (
    SELECT node FROM leader WHERE epoch = %(epoch)s FOR SHARE
), in_force AS MATERIALIZED (
    SELECT triggers FROM generation ORDER BY accepted_at DESC, id DESC LIMIT 1
), before AS MATERIALIZED ( -- unpacked once: looked up name by name, ten thousand schedules take 1.5 s
    SELECT t.* FROM in_force, jsonb_each_text(in_force.triggers) AS t (schedule, trigger)
), given AS MATERIALIZED (
    SELECT * FROM jsonb_each_text(%(triggers)s::jsonb) AS t (schedule, trigger)
), begun AS (
    INSERT INTO cursor AS c (schedule, owner, due_at)
    SELECT g.schedule, 'cluster', %(now)s::timestamptz
    FROM given g LEFT JOIN before b USING (schedule) CROSS JOIN fence
    WHERE b.trigger IS DISTINCT FROM g.trigger
    ON CONFLICT (schedule, owner) DO UPDATE SET due_at = greatest(c.due_at, excluded.due_at)
), again AS (
    UPDATE generation g SET accepted_at = clock_timestamp(), node = f.node FROM fence f
    WHERE content_hash = %(hash)s RETURNING id
), made AS (
    INSERT INTO generation (content_hash, accepted_at, node, triggers)
    SELECT %(hash)s, clock_timestamp(), node, %(triggers)s::jsonb FROM fence WHERE NOT EXISTS (SELECT FROM again)
    ON CONFLICT (content_hash) DO UPDATE SET accepted_at = excluded.accepted_at
    RETURNING id
)
SELECT (SELECT count(*) FROM fence), (SELECT id FROM again UNION ALL SELECT id FROM made)
