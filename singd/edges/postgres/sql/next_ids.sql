-- The rows' numbers are known before they are written: after an unknown COMMIT they tell ours from others'.
SELECT nextval(pg_get_serial_sequence('occurrence', 'id')) FROM generate_series(1, %(count)s)
