"""What kind of artifact a template is: pure, and all of it in four tables.

The first rule that answers wins:

    1. the document says so          "type", "artifact_type" or "template_type"
    2. the document's shape says so  STRUCTURES, in this order, all named keys at the top level
    3. the first directory says so   DIRECTORIES
    4. segments of the path say so   SEGMENTS
    5. "generic_template"

Two loaders of the original system had a rule set each and filed one document under two types. Here the richer set
decides (1 to 3); the other is only asked where that one has no answer (4), and its second level of code templates
(`code_generation/patterns/<category>/…`) became the column `category`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

RULES = 1
"""Number of this rule set. Raise it with every change here: unchanged files are then classified again."""

EXPLICIT = ("type", "artifact_type", "template_type")

STRUCTURES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("indicators", "benefits", "concerns"), "architecture_pattern"),
    (("steps", "inputs", "outputs"), "code_generator"),
    (("code", "language", "description"), "code_snippet"),
    (("capabilities", "language", "quality_level"), "quality_standard"),
    (("role", "content"), "system_prompt"),
    (("workflows",), "workflow"),
    (("rules",), "rule"),
    (("llm_team_templates",), "pattern_detector"),
    (("workspace",), "workspace_pattern"),
)
PROMPT_ROLES = ("system", "assistant")
"""The structure role + content counts only where the role holds one of these words."""

DIRECTORIES = {
    "architecture_patterns": "architecture_pattern",
    "frameworks": "framework",
    "quality_standards": "quality_standard",
    "code_generation": "code_template",
    "prompt_library": "prompt",
    "code_snippets": "code_snippet",
    "workflows": "workflow",
    "htdag_strategies": "strategy",
    "base": "base_template",
    "partials": "partial_template",
    "rules": "rule",
}

SEGMENTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("quality",), "quality_template"),
    (("frameworks",), "framework_pattern"),
    (("prompts",), "system_prompt"),
    (("code_generation", "patterns"), "code_template"),
    (("code_quality_templates",), "quality_template"),
    (("package_registry_indexer", "framework"), "framework_pattern"),
    (("package_registry_indexer", "language"), "language_template"),
)
"""Directories that must all be on the way to the file, anywhere."""

GENERIC = "generic_template"
TYPE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
JSON_SCHEMA = "json-schema.org/"


@dataclass(frozen=True, slots=True)
class Kind:
    """What an artifact is.

    Attributes:
        artifact_type: Such as "architecture_pattern".
        rule: Which rule said so, for people: "document: type", "structure: workflows", "directory: frameworks".
        category: The directory below `code_generation/patterns`, or None.
    """

    artifact_type: str
    rule: str
    category: str | None = None


def classify(path: PurePosixPath, document: Mapping[str, Any]) -> Kind:
    """Name the kind of a document.

    Args:
        path: Where it lies, relative to the tree's root.
        document: Its content.
    """
    folders = path.parts[:-1]
    found = _explicit(document) or _structure(document) or _directory(folders) or _segments(folders)
    artifact_type, rule = found or (GENERIC, "no rule")
    return Kind(artifact_type, rule, category(folders))


def is_json_schema(document: Mapping[str, Any]) -> bool:
    """Whether this is a JSON Schema, which describes templates and is none.

    It names a meta-schema of json-schema.org, or it describes an object by "type" and "properties". A `$schema` of
    one's own (".../schemas/template/v1") is what templates carry.
    """
    if JSON_SCHEMA in str(document.get("$schema", "")):
        return True
    return document.get("type") == "object" and isinstance(document.get("properties"), Mapping)


def category(folders: tuple[str, ...]) -> str | None:
    """The directory below `code_generation/patterns`; a file lying directly in `patterns` has none."""
    for at, pair in enumerate(itertools.pairwise(folders)):
        if pair == ("code_generation", "patterns"):
            return next(iter(folders[at + 2 : at + 3]), None)
    return None


def _explicit(document: Mapping[str, Any]) -> tuple[str, str] | None:
    for key in EXPLICIT:
        value = document.get(key)
        if isinstance(value, str) and TYPE_NAME.fullmatch(value):
            return value, f"document: {key}"
    return None


def _structure(document: Mapping[str, Any]) -> tuple[str, str] | None:
    for keys, artifact_type in STRUCTURES:
        if all(key in document for key in keys) and _speaks(artifact_type, document):
            return artifact_type, f"structure: {'+'.join(keys)}"
    return None


def _speaks(artifact_type: str, document: Mapping[str, Any]) -> bool:
    role = str(document.get("role", "")).lower()
    return artifact_type != "system_prompt" or any(word in role for word in PROMPT_ROLES)


def _directory(folders: tuple[str, ...]) -> tuple[str, str] | None:
    known = DIRECTORIES.get(folders[0]) if folders else None
    return (known, f"directory: {folders[0]}") if known else None


def _segments(folders: tuple[str, ...]) -> tuple[str, str] | None:
    for names, artifact_type in SEGMENTS:
        if all(name in folders for name in names):
            return artifact_type, f"path: {'+'.join(names)}"
    return None
