SELECT (SELECT due_at FROM cursor WHERE schedule = :schedule),
       (SELECT min(due_at) FROM occurrence WHERE schedule = :schedule AND (:owner IS NULL OR owner = :owner))
