SELECT answer FROM override WHERE id = %(id)s AND taken_at IS NOT NULL
