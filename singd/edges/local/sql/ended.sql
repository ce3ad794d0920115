-- What the end of its attempt means for the occurrence.
UPDATE occurrence
SET retry_at = :retry_at, open = :retry_at IS NOT NULL,
    verdict = CASE WHEN :skipped IS NULL THEN verdict ELSE 'skipped' END, reason = coalesce(:skipped, reason)
WHERE number = (SELECT occurrence FROM attempt WHERE token = :token)
