-- The row that covers an instant: its own, or the range that spans it. As the ledger's: among the nearest before.
SELECT number FROM (
    SELECT number, due_at, due_until, request FROM occurrence
    WHERE schedule = :schedule AND due_at <= :at AND (:owner IS NULL OR owner = :owner)
    ORDER BY due_at DESC LIMIT 1000)
WHERE due_at = :at OR due_until >= :at
ORDER BY due_at = :at DESC, request = '' DESC, due_at DESC, number LIMIT 1
