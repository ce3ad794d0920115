-- A verdict for an occurrence that waits. One that ran and waits for a retry keeps `ran`; no retry follows.
UPDATE occurrence SET verdict = coalesce(verdict, :verdict), reason = :reason, retry_at = NULL, open = 0
WHERE number = :number AND (verdict IS NULL OR retry_at IS NOT NULL)
