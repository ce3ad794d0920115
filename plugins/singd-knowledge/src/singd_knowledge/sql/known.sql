select id, path, content_hash, rules from knowledge.knowledge_artifact where source = %(source)s;
