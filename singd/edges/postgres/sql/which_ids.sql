SELECT id FROM occurrence WHERE id = ANY (%(ids)s::bigint[])
