-- Which configuration each live node would lead with.
SELECT name, content_hash FROM live_node ORDER BY name
