-- Who leads, by the leader's own word and by whether its beats go on.
SELECT l.epoch, coalesce(l.node, ''), l.elected_at,
       extract(epoch FROM clock_timestamp() - b.seen_at)::float8
FROM leader l CROSS JOIN leader_beat b WHERE b.epoch = l.epoch AND l.epoch > 0
