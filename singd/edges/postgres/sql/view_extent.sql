SELECT (SELECT max(due_at) FROM cursor WHERE schedule = %(schedule)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)),
       (SELECT min(due_at) FROM occurrence WHERE schedule = %(schedule)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)),
       (SELECT kept_from FROM retention WHERE what = 'occurrence')
