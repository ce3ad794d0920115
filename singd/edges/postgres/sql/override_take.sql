-- The first answer stays.
UPDATE override SET taken_at = clock_timestamp(), answer = %(answer)s::jsonb
WHERE id = %(id)s AND taken_at IS NULL
