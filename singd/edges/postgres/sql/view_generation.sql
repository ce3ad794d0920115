-- The configuration in force is the one accepted last.
SELECT id, content_hash FROM generation ORDER BY accepted_at DESC, id DESC LIMIT 1
