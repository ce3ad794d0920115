-- The next attempt of occurrences that wait: open ones, and those whose retry is due.
WITH fence AS MATERIALIZED (
    SELECT epoch, node, holder, clock_timestamp() AS now FROM leader WHERE epoch = %(epoch)s FOR SHARE
), waiting AS MATERIALIZED (
    SELECT o.id, o.attempts + 1 AS number FROM occurrence o, fence
    WHERE o.id = ANY (%(ids)s::bigint[]) AND (o.verdict IS NULL OR o.retry_at IS NOT NULL)
      AND NOT EXISTS (SELECT FROM attempt a WHERE a.occurrence_id = o.id AND a.finished_at IS NULL)
    ORDER BY o.id FOR NO KEY UPDATE OF o
), opened AS (
    INSERT INTO attempt (occurrence_id, number, token, epoch, node, process, state, claimed_at)
    SELECT w.id, w.number, t.token, f.epoch, f.node, f.holder, 'claimed', f.now
    FROM waiting w JOIN unnest(%(ids)s::bigint[], %(tokens)s::uuid[]) AS t (id, token) USING (id) CROSS JOIN fence f
), decided AS (
    UPDATE occurrence o SET verdict = 'ran', reason = '', retry_at = NULL, attempts = w.number
    FROM waiting w WHERE o.id = w.id AND o.id = ANY (%(ids)s::bigint[])
)
SELECT count(*) FROM fence
