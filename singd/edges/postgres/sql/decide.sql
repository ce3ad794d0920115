-- A verdict for occurrences that wait. One that ran and waits for a retry keeps `ran`; no retry follows.
WITH fence AS MATERIALIZED (
    SELECT FROM leader WHERE epoch = %(epoch)s FOR SHARE
), decided AS (
    UPDATE occurrence o SET verdict = coalesce(o.verdict, t.verdict), reason = t.reason, retry_at = NULL
    FROM unnest(%(ids)s::bigint[], %(verdicts)s::text[], %(reasons)s::text[]) AS t (id, verdict, reason), fence
    WHERE o.id = t.id AND o.id = ANY (%(ids)s::bigint[]) AND (o.verdict IS NULL OR o.retry_at IS NOT NULL)
)
SELECT count(*) FROM fence
