-- Rows of a node's local journal, with their attempts and output. No fence: they are the node's own, and what is
-- there already stays as it is. In the order of identity, so that two that overlap wait for each other, not both.
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        %(numbers)s::bigint[], %(schedules)s::text[], %(owners)s::text[], %(dues)s::timestamptz[],
        %(untils)s::timestamptz[], %(counts)s::integer[], %(requests)s::text[], %(tasks)s::text[],
        %(verdicts)s::text[], %(reasons)s::text[], %(hashes)s::text[], %(recorded)s::timestamptz[], %(tries)s::integer[]
    ) AS t (number, schedule, owner, due_at, due_until, count, request, task, verdict, reason, hash, recorded_at, attempts)
), written AS (
    INSERT INTO occurrence (schedule, owner, due_at, due_until, count, request, task, generation, verdict, reason,
                            attempts, epoch, recorded_at, origin, local_number)
    SELECT i.schedule, i.owner, i.due_at, i.due_until, i.count, i.request, i.task,
           coalesce((SELECT g.id FROM generation g WHERE g.content_hash = i.hash), 0), i.verdict, i.reason,
           i.attempts, 0, i.recorded_at, %(origin)s::uuid, i.number
    FROM input i ORDER BY i.schedule, i.due_at, i.owner, i.request, i.number
    ON CONFLICT DO NOTHING
    RETURNING id, owner, local_number
), tries AS MATERIALIZED (
    SELECT * FROM unnest(
        %(tried)s::bigint[], %(orders)s::integer[], %(tokens)s::uuid[], %(processes)s::uuid[], %(states)s::text[],
        %(claims)s::timestamptz[], %(starts)s::timestamptz[], %(ends)s::timestamptz[], %(errors)s::text[],
        %(results)s::jsonb[], %(heads)s::bytea[], %(tails)s::bytea[], %(drops)s::bigint[]
    ) AS t (local_number, number, token, process, state, claimed_at, started_at, finished_at, error, result,
            head, tail, dropped)
), tried AS (
    INSERT INTO attempt (occurrence_id, number, token, epoch, node, process, state, claimed_at, started_at,
                         finished_at, error, result)
    SELECT w.id, t.number, t.token, 0, w.owner, t.process, t.state, t.claimed_at, t.started_at, t.finished_at,
           t.error, t.result
    FROM written w JOIN tries t USING (local_number)
), kept AS (
    INSERT INTO attempt_log (occurrence_id, number, head, tail, dropped)
    SELECT w.id, t.number, t.head, t.tail, t.dropped FROM written w JOIN tries t USING (local_number)
    WHERE t.head IS NOT NULL
)
SELECT count(*) FROM written
