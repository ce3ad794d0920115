-- The newest pause of each schedule; a resume after it is its end. One that is over is told too: what a leader finds
-- undecided of that time was paused all the same.
SELECT p.target, p.asked_at, p.actor,
       least(p.until, (SELECT min(r.asked_at) FROM override r
                       WHERE r.target = p.target AND r.verb = 'resume' AND r.id > p.id)),
       p.note
FROM (
    SELECT DISTINCT ON (target) * FROM override WHERE verb = 'pause' ORDER BY target, id DESC
) p
