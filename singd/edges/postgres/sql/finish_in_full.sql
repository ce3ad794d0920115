-- An attempt's end with all that hangs on it: cause, result, log, the occurrence's retry or verdict.
-- Accepted from claimed and running. Accepted from `lost`, once and for another outcome, where nothing
-- followed the loss: no retry is due and no later attempt was opened. That is what at_most_once leaves.
-- `held` is locked and therefore current, where the statement's snapshot may be older than a settle.
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        %(tokens)s::uuid[], %(states)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[],
        %(errors)s::text[], %(results)s::jsonb[], %(skips)s::text[], %(retries)s::timestamptz[],
        %(heads)s::bytea[], %(tails)s::bytea[], %(drops)s::bigint[]
    ) AS t (token, state, started_at, finished_at, error, result, skipped, retry_at, head, tail, dropped)
), held AS MATERIALIZED (
    SELECT o.id, o.attempts, o.retry_at FROM occurrence o
    WHERE o.id = ANY (ARRAY(SELECT a.occurrence_id FROM attempt a WHERE a.token = ANY (%(tokens)s::uuid[])))
    ORDER BY o.id FOR NO KEY UPDATE
), ended AS (
    UPDATE attempt a
    SET state = i.state, finished_at = coalesce(i.finished_at, clock_timestamp()),
        started_at = coalesce(i.started_at, a.started_at), error = i.error, result = i.result
    FROM input i, held h
    WHERE a.token = i.token AND a.token = ANY (%(tokens)s::uuid[]) AND h.id = a.occurrence_id AND (
        a.state IN ('claimed', 'running')
        OR a.state = 'lost' AND i.state <> 'lost' AND h.retry_at IS NULL AND h.attempts = a.number)
    RETURNING a.occurrence_id, a.number, a.token, i.skipped, i.retry_at, i.head, i.tail, i.dropped
), decided AS (
    UPDATE occurrence o
    SET retry_at = e.retry_at, verdict = CASE WHEN e.skipped IS NULL THEN o.verdict ELSE 'skipped' END,
        reason = CASE WHEN e.skipped IS NULL THEN o.reason ELSE coalesce(nullif(e.skipped, ''), 'the task said so') END
    FROM ended e
    WHERE o.id = e.occurrence_id AND o.id = ANY (ARRAY(SELECT id FROM held)) AND (e.retry_at IS NOT NULL OR e.skipped IS NOT NULL)
), kept AS (
    INSERT INTO attempt_log (occurrence_id, number, head, tail, dropped)
    SELECT occurrence_id, number, head, tail, dropped FROM ended WHERE head IS NOT NULL
    ON CONFLICT (occurrence_id, number) DO UPDATE
        SET head = excluded.head, tail = excluded.tail, dropped = excluded.dropped
)
SELECT token::text FROM ended
