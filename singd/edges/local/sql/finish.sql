-- `lost` gives way only where nothing followed it (at_most_once), and not any more once the ledger has it.
UPDATE attempt
SET state = :state, finished_at = coalesce(:finished_at, :now), started_at = coalesce(:started_at, started_at),
    error = :error, result = :result
WHERE token = :token AND (
    state IN ('claimed', 'running')
    OR state = 'lost' AND :state <> 'lost' AND EXISTS (
        SELECT 1 FROM occurrence o WHERE o.number = attempt.occurrence AND o.attempts = attempt.number
            AND o.retry_at IS NULL AND o.shipped_at IS NULL))
