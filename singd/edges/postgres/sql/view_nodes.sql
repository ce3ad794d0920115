-- Every node that ever registered, those that are live first.
SELECT n.name, n.role, n.version, n.process::text, n.registered_at, l.pid IS NOT NULL, n.content_hash,
       coalesce(host(a.client_addr), '')
FROM node n LEFT JOIN live_node l ON l.name = n.name LEFT JOIN pg_stat_activity a ON a.pid = l.pid
ORDER BY l.pid IS NULL, n.registered_at DESC LIMIT 1000
