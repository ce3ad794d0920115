-- Claimed and running attempts, of whatever epoch and process, with their age by the server's clock.
SELECT a.occurrence_id, a.number, a.token::text, a.epoch, o.schedule, o.due_at, o.owner, o.request,
       a.state = 'running', a.process,
       (SELECT count(*) FROM attempt b WHERE b.occurrence_id = a.occurrence_id AND b.state IN ('failed', 'timed_out')),
       extract(epoch FROM clock_timestamp() - coalesce(a.beat_at, a.claimed_at))::float8
FROM attempt a JOIN occurrence o ON o.id = a.occurrence_id
WHERE a.finished_at IS NULL AND o.owner = 'cluster'
ORDER BY o.due_at, o.id
