-- The end of attempts whose owner is gone, behind the fence. Strict about what the term saw: a claimed
-- attempt that began meanwhile is not cancelled (it would run twice), a running one is not "never started".
WITH fence AS MATERIALIZED (
    SELECT FROM leader WHERE epoch = %(epoch)s FOR SHARE
), input AS MATERIALIZED (
    SELECT * FROM unnest(
        %(tokens)s::uuid[], %(states)s::text[], %(errors)s::text[], %(retries)s::timestamptz[]
    ) AS t (token, state, error, retry_at) CROSS JOIN fence
), held AS MATERIALIZED (
    SELECT o.id FROM occurrence o
    WHERE o.id = ANY (ARRAY(SELECT a.occurrence_id FROM attempt a WHERE a.token = ANY (%(tokens)s::uuid[])))
    ORDER BY o.id FOR NO KEY UPDATE
), ended AS (
    UPDATE attempt a SET state = i.state, finished_at = clock_timestamp(), error = i.error
    FROM input i, held h
    WHERE a.token = i.token AND a.token = ANY (%(tokens)s::uuid[]) AND h.id = a.occurrence_id
      AND (a.state, i.state) IN (('claimed', 'cancelled'), ('running', 'lost'))
    RETURNING a.occurrence_id, a.token, i.retry_at
), decided AS (
    UPDATE occurrence o SET retry_at = e.retry_at FROM ended e
    WHERE o.id = e.occurrence_id AND o.id = ANY (ARRAY(SELECT id FROM held)) AND e.retry_at IS NOT NULL
)
SELECT (SELECT count(*) FROM fence), array(SELECT token::text FROM ended)
