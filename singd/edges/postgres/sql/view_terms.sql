SELECT epoch, node, elected_at, last_seen_at FROM term ORDER BY epoch DESC LIMIT %(limit)s
