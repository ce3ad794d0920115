-- One occurrence; nothing where its identity is taken.
INSERT INTO occurrence (schedule, owner, due_at, due_until, count, request, task, generation, verdict, reason,
                        attempts, open, recorded_at)
VALUES (:schedule, :owner, :due_at, :due_until, :count, :request, :task, :generation, :verdict, :reason,
        :attempts, :open, :now)
ON CONFLICT (schedule, due_at, owner, request) DO NOTHING
