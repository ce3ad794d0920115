-- After an unknown COMMIT: which of these ends stand in the ledger as we meant to write them.
SELECT a.token::text
FROM unnest(%(tokens)s::uuid[], %(states)s::text[], %(errors)s::text[]) AS t (token, state, error)
JOIN attempt a ON a.token = t.token AND a.state = t.state AND a.error = t.error
