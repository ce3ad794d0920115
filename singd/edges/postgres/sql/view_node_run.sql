-- A node's own row by its number there; the newest, where two state directories had that node's name.
SELECT id FROM occurrence WHERE owner = %(node)s AND local_number = %(number)s ORDER BY id DESC LIMIT 1
