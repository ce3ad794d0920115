-- Which of these ends stand in the ledger just as they were meant: written by an earlier try.
SELECT a.token::text
FROM unnest(%(tokens)s::uuid[], %(states)s::text[], %(errors)s::text[]) AS t (token, state, error)
JOIN attempt a ON a.token = t.token AND a.state = t.state AND a.error = t.error
WHERE a.token = ANY (%(tokens)s::uuid[])
