-- A wish and its trace; one that is there already stays as it is. Every node is told either way: asking again is also a nudge.
WITH asked AS (
    INSERT INTO override (verb, target, request, args, until, note, actor)
    VALUES (%(verb)s, %(target)s, %(request)s, jsonb_build_object('owner', %(owner)s::text),
            %(until)s::timestamptz, %(note)s, %(actor)s)
    ON CONFLICT (request) DO NOTHING
    RETURNING *
), traced AS (
    INSERT INTO audit_event (actor, event, detail)
    SELECT actor, verb, jsonb_build_object('target', target, 'request', request, 'owner', args ->> 'owner',
                                           'until', until, 'note', note, 'override', id)
    FROM asked
)
SELECT pg_notify(%(channel)s, '')
