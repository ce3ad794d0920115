-- Whether a lock of this session can mean anything: see session.py.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, pg_backend_pid(),
       current_setting('idle_session_timeout'), clock_timestamp()
