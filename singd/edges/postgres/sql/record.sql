-- Occurrences and their first attempts, behind the fence. One element an occurrence in each array;
-- a null token asks for no attempt. Safe to repeat: what is there already stays as it is.
-- Cursors never move back.
WITH fence AS MATERIALIZED (
    SELECT epoch, node, holder, clock_timestamp() AS now FROM leader WHERE epoch = %(epoch)s FOR SHARE
), input AS MATERIALIZED (
    SELECT * FROM unnest(
        %(ids)s::bigint[], %(schedules)s::text[], %(owners)s::text[], %(dues)s::timestamptz[],
        %(untils)s::timestamptz[], %(counts)s::integer[], %(requests)s::text[], %(tasks)s::text[],
        %(verdicts)s::text[], %(reasons)s::text[], %(tokens)s::uuid[]
    ) AS t (id, schedule, owner, due_at, due_until, count, request, task, verdict, reason, token)
), written AS (
    INSERT INTO occurrence (id, schedule, owner, due_at, due_until, count, request, task,
                            generation, verdict, reason, attempts, epoch, recorded_at)
    SELECT i.id, i.schedule, i.owner, i.due_at, i.due_until, i.count, i.request, i.task,
           %(generation)s, i.verdict, i.reason, (i.token IS NOT NULL)::integer, f.epoch, f.now
    FROM input i CROSS JOIN fence f
    ON CONFLICT DO NOTHING
    RETURNING id
), tried AS (
    INSERT INTO attempt (occurrence_id, number, token, epoch, node, process, state, claimed_at)
    SELECT i.id, 1, i.token, f.epoch, f.node, f.holder, 'claimed', f.now
    FROM written JOIN input i USING (id) CROSS JOIN fence f
    WHERE i.token IS NOT NULL
), moved AS (
    INSERT INTO cursor AS c (schedule, owner, due_at)
    SELECT schedule, 'cluster', due_at
    FROM unnest(%(cursors)s::text[], %(cursor_dues)s::timestamptz[]) AS t (schedule, due_at) CROSS JOIN fence
    ON CONFLICT (schedule, owner) DO UPDATE SET due_at = excluded.due_at WHERE c.due_at < excluded.due_at
)
SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM written)
