"""The documented rules, one row a rule; the shapes are those of real template families."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from singd_knowledge.classify import classify, is_json_schema

ARCHITECTURE = {"id": "cqrs", "indicators": [], "benefits": [], "concerns": []}
QUALITY = {"name": "Go", "capabilities": [], "language": "go", "quality_level": "production"}

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("architecture_patterns/cqrs.json", ARCHITECTURE, "architecture_pattern", "structure: indicators+benefits+concerns"),
    ("elsewhere/cqrs.json", ARCHITECTURE, "architecture_pattern", "structure: indicators+benefits+concerns"),
    ("architecture_patterns/odd.json", {"name": "x"}, "architecture_pattern", "directory: architecture_patterns"),
    ("code_generation/quality/go.json", QUALITY, "quality_standard", "structure: capabilities+language+quality_level"),
    ("code_generation/quality/bare.json", {}, "code_template", "directory: code_generation"),
    ("code_generation/patterns/ai/crewai.json", {"name": "CrewAI"}, "code_template", "directory: code_generation"),
    ("code_generation/w.json", {"type": "workspace_pattern"}, "workspace_pattern", "document: type"),
    ("frameworks/a.json", {"artifact_type": "quality_template"}, "quality_template", "document: artifact_type"),
    ("frameworks/a.json", {"template_type": "bit"}, "bit", "document: template_type"),
    ("frameworks/a.json", {"type": "Not A Type!"}, "framework", "directory: frameworks"),
    ("frameworks/a.json", {"type": ["list"]}, "framework", "directory: frameworks"),
    ("x/a.json", {"steps": [], "inputs": [], "outputs": []}, "code_generator", "structure: steps+inputs+outputs"),
    ("x/a.json", {"code": "", "language": "", "description": ""}, "code_snippet", "structure: code+language+description"),
    ("x/a.json", {"role": "System prompt", "content": ""}, "system_prompt", "structure: role+content"),
    ("x/a.json", {"role": "user", "content": ""}, "generic_template", "no rule"),
    ("x/a.json", {"workflows": []}, "workflow", "structure: workflows"),
    ("x/a.json", {"rules": []}, "rule", "structure: rules"),
    ("x/a.json", {"llm_team_templates": {}}, "pattern_detector", "structure: llm_team_templates"),
    ("x/a.json", {"workspace": {}}, "workspace_pattern", "structure: workspace"),
    ("quality_standards/elixir/p.json", {}, "quality_standard", "directory: quality_standards"),
    ("prompt_library/p.json", {"steps": []}, "prompt", "directory: prompt_library"),
    ("code_snippets/fastapi/p.json", {}, "code_snippet", "directory: code_snippets"),
    ("workflows/sparc/p.json", {}, "workflow", "directory: workflows"),
    ("htdag_strategies/p.json", {}, "strategy", "directory: htdag_strategies"),
    ("base/p.json", {}, "base_template", "directory: base"),
    ("partials/p.json", {}, "partial_template", "directory: partials"),
    ("rules/p.json", {}, "rule", "directory: rules"),
    ("priv/code_quality_templates/p.json", {}, "quality_template", "path: code_quality_templates"),
    ("rust/package_registry_indexer/templates/framework/p.json", {}, "framework_pattern", "path: package_registry_indexer+framework"),
    ("rust/package_registry_indexer/templates/language/p.json", {}, "language_template", "path: package_registry_indexer+language"),
    ("team/quality/p.json", {}, "quality_template", "path: quality"),
    ("team/frameworks/p.json", {}, "framework_pattern", "path: frameworks"),
    ("team/prompts/p.json", {}, "system_prompt", "path: prompts"),
    ("team/code_generation/patterns/p.json", {}, "code_template", "path: code_generation+patterns"),
    ("loose.json", {}, "generic_template", "no rule"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "document", "artifact_type", "rule"), CASES)
def test_the_first_documented_rule_that_answers_decides(
    path: str, document: dict[str, Any], artifact_type: str, rule: str
) -> None:
    kind = classify(PurePosixPath(path), document)
    assert (kind.artifact_type, kind.rule) == (artifact_type, rule)


@pytest.mark.parametrize(
    ("path", "category"),
    [
        ("code_generation/patterns/messaging/nats.json", "messaging"),
        ("code_generation/patterns/languages/python/_base.json", "languages"),
        ("code_generation/patterns/worker.json", None),  # the original took "worker.json" for the category
        ("code_generation/quality/go.json", None),
        ("patterns/code_generation/ai/x.json", None),
        ("loose.json", None),
    ],
)
def test_the_category_is_the_directory_below_patterns_and_never_a_file(
    path: str, category: str | None
) -> None:
    assert classify(PurePosixPath(path), {}).category == category


@pytest.mark.parametrize(
    ("document", "schema"),
    [
        ({"$schema": "http://json-schema.org/draft-07/schema#", "title": "T"}, True),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, True),
        ({"type": "object", "properties": {}}, True),
        ({"$schema": "https://singularity.dev/schemas/template/v1", "type": "workspace_pattern"}, False),
        ({"type": "object"}, False),
        ({"name": "x", "properties": {}}, False),
    ],
)
def test_a_json_schema_is_told_from_a_template_that_names_its_schema(
    document: dict[str, Any], schema: bool
) -> None:
    assert is_json_schema(document) is schema


def test_the_projects_own_sample_tree_has_every_family_and_one_schema_file(
    pytestconfig: pytest.Config,
) -> None:
    import json

    tree = pytestconfig.rootpath / "config" / "templates_data"
    documents = {path.relative_to(tree): json.loads(path.read_text()) for path in Path(tree).rglob("*.json")}
    schemas = [str(path) for path, document in documents.items() if is_json_schema(document)]
    kinds = {classify(PurePosixPath(path), document).artifact_type for path, document in documents.items()}
    assert schemas == ["template_schema.json"]
    assert kinds >= {
        "architecture_pattern", "framework", "code_template", "quality_standard", "prompt", "workflow", "code_snippet",
        "base_template", "workspace_pattern",
    }  # fmt: skip
