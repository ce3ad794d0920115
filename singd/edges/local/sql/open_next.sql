-- The next attempt of an occurrence that waits: an open one, or one whose retry is due. No live attempt has either.
UPDATE occurrence SET verdict = 'ran', reason = '', retry_at = NULL, attempts = attempts + 1, open = 1
WHERE number = :number AND (verdict IS NULL OR retry_at IS NOT NULL)
