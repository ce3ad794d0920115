SELECT id, verb, target, request, actor, args ->> 'owner', until, note, asked_at, ''
FROM override WHERE request = %(request)s
