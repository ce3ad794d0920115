SELECT number FROM occurrence WHERE schedule = :schedule AND attempts > 0 ORDER BY due_at DESC, number DESC LIMIT 1
