-- What the server says of itself, and how many connections are left to this login.
SELECT current_setting('server_version'), current_user::text,
       pg_is_in_recovery(), current_setting('transaction_read_only')::boolean,
       jsonb_build_object(
           'fsync', current_setting('fsync'), 'full_page_writes', current_setting('full_page_writes'),
           'synchronous_commit', current_setting('synchronous_commit')),
       (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid), r.rolconnlimit,
       has_database_privilege(current_database(), 'CREATE'),
       to_regnamespace(%(schema)s) IS NOT NULL
FROM pg_roles r WHERE r.rolname = current_user
