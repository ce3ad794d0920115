-- What a daemon with this login would miss; a table that is not there is the schema's problem.
SELECT t || ' (' || r || ')' FROM unnest(%(tables)s::text[], %(rights)s::text[]) AS needed(t, r)
WHERE NOT has_table_privilege(to_regclass(t), r)
