-- What nobody has taken. A trigger whose occurrence stands in the ledger was carried out by one that could not say so any more.
SELECT v.id, v.verb, v.target, v.request, v.actor, v.args ->> 'owner', v.until, v.note, v.asked_at,
       CASE WHEN o.id IS NULL THEN ''
            WHEN o.owner = 'cluster' THEN o.id::text
            ELSE o.owner || ':' || o.local_number END
FROM override v LEFT JOIN occurrence o
    ON v.verb = 'trigger' AND o.schedule = v.target AND o.due_at = v.asked_at
   AND o.owner = v.args ->> 'owner' AND o.request = v.request
WHERE v.taken_at IS NULL
ORDER BY v.id LIMIT 1000
