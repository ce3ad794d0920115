-- Strict about what was seen: a claimed attempt that began meanwhile is not cancelled, a running one is not
-- "never started".
UPDATE attempt SET state = :state, finished_at = :now, error = :error
WHERE token = :token AND (state, :state) IN (VALUES ('claimed', 'cancelled'), ('running', 'lost'))
