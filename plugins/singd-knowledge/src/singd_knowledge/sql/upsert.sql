insert into knowledge.knowledge_artifact (
    source, id, path, artifact_type, classified_by, rules, category,
    name, version, description, declared_id, language, tags, content_raw, content_hash
) values (
    %(source)s, %(id)s, %(path)s, %(artifact_type)s, %(classified_by)s, %(rules)s, %(category)s,
    %(name)s, %(version)s, %(description)s, %(declared_id)s, %(language)s, %(tags)s, %(content_raw)s, %(content_hash)s
)
on conflict (source, id) do update set
    path = excluded.path, artifact_type = excluded.artifact_type, classified_by = excluded.classified_by,
    rules = excluded.rules, category = excluded.category, name = excluded.name, version = excluded.version,
    description = excluded.description, declared_id = excluded.declared_id, language = excluded.language,
    tags = excluded.tags, content_raw = excluded.content_raw, content_hash = excluded.content_hash, loaded_at = now();
