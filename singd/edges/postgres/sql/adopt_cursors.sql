SELECT schedule, due_at FROM cursor WHERE owner = 'cluster'
