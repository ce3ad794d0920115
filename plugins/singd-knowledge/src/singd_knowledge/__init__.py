"""Loads a tree of JSON templates into `knowledge.knowledge_artifact`, one row a file."""
