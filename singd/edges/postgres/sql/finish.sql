-- Ends without a word: no error, result, log, retry or skip. `lost` gives way only where nothing followed
-- it (at_most_once); see finish_in_full.sql. The tokens are named twice so that the index is used, whatever
-- the planner thinks of a join.
UPDATE attempt a
SET state = t.state, finished_at = coalesce(t.finished_at, clock_timestamp()),
    started_at = coalesce(t.started_at, a.started_at)
FROM unnest(%(tokens)s::uuid[], %(states)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    AS t (token, state, started_at, finished_at)
WHERE a.token = t.token AND a.token = ANY (%(tokens)s::uuid[]) AND a.state IN ('claimed', 'running')
RETURNING a.token::text
