delete from knowledge.knowledge_artifact where source = %(source)s and id = any(%(ids)s);
