SELECT number FROM occurrence WHERE schedule = :schedule AND attempts > 0 AND (:owner IS NULL OR owner = :owner)
ORDER BY due_at DESC, number DESC LIMIT 1
