DELETE FROM attempt_log WHERE rowid IN (SELECT rowid FROM attempt_log ORDER BY occurrence, number LIMIT 100)
