-- This very process may have lost its way to the server while the server still holds its last session, and its name.
SELECT pg_terminate_backend(pid) FROM live_node
WHERE name = %(name)s AND process = %(process)s AND pid = backend_pid AND pid <> pg_backend_pid()
