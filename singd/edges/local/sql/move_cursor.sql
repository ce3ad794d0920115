INSERT INTO cursor (schedule, due_at) VALUES (:schedule, :due_at)
ON CONFLICT (schedule) DO UPDATE SET due_at = excluded.due_at WHERE due_at < excluded.due_at
