SELECT head, tail, dropped FROM attempt_log WHERE occurrence_id = %(id)s AND number = %(number)s
