-- Which of the rows are not in the ledger as this origin's: another has their identity, or (a state directory that
-- was copied, or restored) their number. Each becomes an audit event, once: the caller holds the origin's lock.
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        %(numbers)s::bigint[], %(schedules)s::text[], %(owners)s::text[], %(dues)s::timestamptz[],
        %(untils)s::timestamptz[], %(counts)s::integer[], %(requests)s::text[], %(tasks)s::text[],
        %(verdicts)s::text[], %(reasons)s::text[], %(recorded)s::timestamptz[], %(details)s::jsonb[]
    ) AS t (number, schedule, owner, due_at, due_until, count, request, task, verdict, reason, recorded_at, attempts)
), strange AS MATERIALIZED (
    SELECT i.*, jsonb_build_object('origin', %(origin)s::uuid, 'number', i.number, 'schedule', i.schedule,
                                   'owner', i.owner, 'due_at', i.due_at, 'request', i.request) AS identity
    FROM input i LEFT JOIN LATERAL (
        SELECT true AS ours FROM occurrence o
        WHERE o.owner = i.owner AND o.origin = %(origin)s::uuid AND o.local_number = i.number
          AND (o.schedule, o.due_at, o.request) = (i.schedule, i.due_at, i.request)
        LIMIT 1
    ) known ON true
    WHERE known.ours IS NULL
), noted AS (
    INSERT INTO audit_event (actor, event, detail)
    SELECT %(actor)s, 'identity_conflict', s.identity || jsonb_build_object(
        'due_until', s.due_until, 'count', s.count, 'task', s.task, 'verdict', s.verdict, 'reason', s.reason,
        'recorded_at', s.recorded_at) || s.attempts
    FROM strange s
    WHERE s.identity NOT IN (
        SELECT jsonb_build_object('origin', e.detail->'origin', 'number', e.detail->'number', 'schedule', e.detail->'schedule',
                                  'owner', e.detail->'owner', 'due_at', e.detail->'due_at', 'request', e.detail->'request')
        FROM audit_event e WHERE e.event = 'identity_conflict' AND e.detail->>'origin' = %(origin)s::text)
)
SELECT number FROM strange
