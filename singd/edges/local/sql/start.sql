UPDATE attempt SET state = 'running', started_at = coalesce(started_at, :now)
WHERE token = :token AND state IN ('claimed', 'running')
