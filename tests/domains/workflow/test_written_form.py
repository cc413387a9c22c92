"""Numbers, booleans and null in YAML: kept as they are written, or refused with their line."""

from __future__ import annotations

import pytest

from domains.workflow import yaml_file
from domains.workflow.definition import Definition
from domains.workflow.library import Source
from domains.workflow.problems import BrokenWorkflow
from domains.workflow.python_file import read

KEPT = ["0x10", "0o17", "1e3", "010", "1_000", "yes", "no", "on", "off", "2024-01-01", "1:30", "5"]
REWRITTEN = ["3.10", "1.0e5", ".5", "+5", "-0", "0.50", "True", "FALSE", "~", "Null"]


def parsed(text: str) -> Definition:
    return yaml_file.parse(text.encode(), id="w", path="w.yaml")


def broken(text: str) -> str:
    with pytest.raises(BrokenWorkflow) as caught:
        parsed(text)
    return caught.value.message


@pytest.mark.parametrize("word", [*KEPT, *REWRITTEN[:-2], "true", "2.5"])
def test_a_word_is_kept_as_it_is_written_wherever_a_text_is_meant(word):
    found = parsed(
        f"""
name: {word}
description: {word}
phases: [{word}]
env: {{A: {word}}}
args: {{a: {{type: string, title: {word}, description: {word}}}}}
steps:
  - {{id: r, run: {word}, env: {{A: {word}}}, cwd: {word}, phase: {word}}}
  - {{id: a, agent: {word}, prompt: {word}, model: {word}, allowed-tools: [{word}]}}
  - {{id: q, approve: {word}}}
  - {{id: n, annotation: {word}}}
  - {{id: w, wait-for: {word}}}
  - {{id: k, artifact: {{path: {word}, name: {word}}}}}
"""
    )
    assert (found.name, found.description, found.phases, found.env) == (
        *(word, word, (word,)),
        {"A": word},
    )
    assert found.args["a"] == {"type": "string", "title": word, "description": word}
    assert [step.fields for step in found.steps] == [
        {"run": word, "env": {"A": word}, "cwd": word},
        {"agent": word, "prompt": word, "model": word, "allowed_tools": [word]},
        {"approve": word, "otherwise": "fail"},
        {"annotation": {"level": "info", "message": word}},
        {"wait_for": word},
        {"artifact": {"path": word, "name": word}},
    ]


@pytest.mark.parametrize("word", ["~", "null", "Null"])
@pytest.mark.parametrize(
    "text",
    [
        "env: {{A: {}}}\nsteps: [{{id: a, run: x}}]",
        "steps: [{{id: a, run: x, env: {{A: {}}}}}]",
        "steps: [{{id: a, agent: x, prompt: {}}}]",
        "args: {{a: {{type: string, default: {}}}}}\nsteps: [{{id: a, run: x}}]",
        "args: {{a: {{type: string, enum: [{}]}}}}\nsteps: [{{id: a, run: x}}]",
    ],
)
def test_null_in_place_of_a_text_is_refused_with_its_line(text, word):
    told = broken(text.format(word))
    assert told.startswith("w.yaml:1: ")
    assert "in quotes" in told


DATA = [
    "steps:\n- id: e\n  for-each: [1, {}]\n  steps: [{{id: a, run: x}}]",
    "steps:\n- id: e\n  for-each: [{{deep: [{}]}}]\n  steps: [{{id: a, run: x}}]",
    "steps:\n- workflow: other\n  args: {{version: {}}}\n  id: e",
    "steps:\n- id: e\n  git: {{operation: tag_create, name: {}}}\n",
    "args:\n  a:\n    default: {}\nsteps: [{{id: a, run: x}}]",
]


@pytest.mark.parametrize("word", REWRITTEN)
@pytest.mark.parametrize("text", DATA)
def test_what_would_be_written_in_another_way_is_refused_among_data(text, word):
    told = broken(text.format(word))
    assert told.startswith("w.yaml:3: "), told
    assert f"{word} in " in told
    assert "put it in quotes" in told


@pytest.mark.parametrize("word", [*KEPT, "3.11", "0", "-7", "true", "null", "''", "'3.10'", "'~'"])
@pytest.mark.parametrize("text", DATA)
def test_all_else_stays_what_it_is_among_data(text, word):
    parsed(text.format(word))


async def test_items_reach_the_steps_as_they_are_written():
    step = parsed(
        "steps:\n- id: e\n  for-each: ['3.10', 3.11, 0x10, 1e3, yes]\n  steps: [{id: a, run: x}]"
    ).steps[0]
    assert step.fields["for_each"] == ["3.10", 3.11, "0x10", "1e3", "yes"]


def test_numbers_may_be_written_anyhow_where_an_argument_is_a_number():
    found = parsed(
        "args:\n  a: {type: number, default: 0.50, minimum: .5}\n"
        "  b: {type: [string, number], default: 1.50}\nsteps: [{id: a, run: x}]"
    )
    assert [each["default"] for each in found.args.values()] == [0.5, 1.5]


@pytest.mark.parametrize("keyword", ["default: 3.10", "enum: [3.9, 3.10]", "const: 3.10"])
def test_a_number_for_an_argument_that_is_a_text_is_refused(keyword):
    told = broken(f"args:\n  a: {{type: string, {keyword}}}\nsteps: [{{id: a, run: x}}]")
    assert told.startswith("w.yaml:2: ")
    assert "put it in quotes" in told


def test_a_float_among_the_variables_of_a_workflow_in_python_is_refused():
    text = (
        b"from domains.workflow import workflow\n@workflow(env={'PYTHON': 3.10})\n"
        b"async def it(run): ..."
    )
    with pytest.raises(BrokenWorkflow, match="put it in quotes"):
        read(Source("w", "w.py", "python", text))
