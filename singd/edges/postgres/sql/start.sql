-- A repeat finds `running` and answers the same; a settled attempt is terminal and is not answered.
UPDATE attempt SET state = 'running', started_at = coalesce(started_at, clock_timestamp()), beat_at = clock_timestamp()
WHERE token = ANY (%(tokens)s::uuid[]) AND state IN ('claimed', 'running')
RETURNING token::text
