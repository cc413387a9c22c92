"""YAML 1.2 as others read it, and what is said to those who come from elsewhere."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from domains.workflow import yaml_file
from domains.workflow.definition import Definition
from domains.workflow.problems import BrokenWorkflow
from domains.workflow.yaml_scanner import Loader


def parsed(text: str) -> Definition:
    return yaml_file.parse(text.encode(), id="w", path="w.yaml")


def events(text: str, loader: type) -> list[tuple[object, ...]] | str:
    """What a parser makes of a text, or that it refuses it."""
    try:
        return [
            (type(each).__name__, getattr(each, "value", None), each.start_mark.index)
            for each in yaml.parse(text, Loader=loader)
        ]
    except yaml.YAMLError:
        return "refused"


@pytest.mark.parametrize(
    ("flow", "value"),
    [
        ("Deploy?", "Deploy?"),
        ("Deploy? Now", "Deploy? Now"),
        ("http://127.0.0.1/?a=1&b=2", "http://127.0.0.1/?a=1&b=2"),
        ("?x", "?x"),
        ("a ?", "a ?"),
        ("what?:no", "what?:no"),
    ],
)
def test_a_question_mark_may_stand_in_a_text_in_braces(flow, value):
    step = parsed(f"steps:\n- {{id: g, approve: {flow}}}").steps[0]
    assert step.fields["approve"] == value
    assert parsed(f"steps:\n- {{id: g, run: x, env: {{A: {flow}}}}}").steps[0].fields["env"] == {
        "A": value
    }


@given(st.text("ab:,#[]{}- \n\t'\"|>&*!%@`1.", max_size=30))
def test_without_question_marks_a_text_is_read_as_by_pyyaml(text):
    assert events(text, Loader) == events(text, yaml.SafeLoader)


@given(st.text("ab:?,[]{} \n'\"", max_size=20))
def test_with_question_marks_nothing_is_refused_that_was_read_before(text):
    if events(text, yaml.SafeLoader) != "refused":
        assert events(text, Loader) != "refused"


STEP = "- {id: a, run: x}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("on: push\nsteps: [{id: a, run: x}]", "w.yaml:1: 'on' is no key of the file; a run is"),
        ("steps: [{id: a, run: x}]\njobs: {}", "w.yaml:2: 'jobs' is no key of the file; there are"),
        ("defaults: {}\nsteps: [{id: a, run: x}]", "shell and cwd stand at each step"),
        (
            "steps:\n- id: a\n  run: x\n  needs: b",
            "w.yaml:4: 'needs' is no key of a step with run; ",
        ),
        ("steps:\n- id: a\n  run: x\n  working-directory: b", "with run; it is called cwd"),
        ("steps:\n- id: a\n  run: x\n  runs-on: b", "with run; everything runs on this machine"),
        ("steps:\n- id: a\n  run: x\n  with: {}", "with run; run has env"),
        ("steps:\n- id: a\n  run: x\n  strategy: {}", "with run; for-each goes through a list"),
        ("steps:\n- id: a\n  agent: x\n  prompt: x\n  shell: sh", "agent; it belongs to run"),
        (
            "steps:\n- id: a\n  uses: actions/checkout@v4",
            "w.yaml:3: step a does not say what it does",
        ),
        ("steps:\n- id: a\n  uses: actions/checkout@v4", "uses: there are no actions"),
        ("steps:\n- id: a\n  script: x", "w.yaml:3: step a does not say what it does; script: it"),
        ("steps:\n- id: a\n  run: x\n  timeout: 5", "with run; it is called timeout-minutes"),
    ],
)
def test_keys_of_others_are_told_with_what_is_written_here(text, told):
    with pytest.raises(BrokenWorkflow) as caught:
        parsed(text)
    lines = [
        f"w.yaml:{each['line']}: {each['message']}" for each in caught.value.details["problems"]
    ]
    assert any(told in line for line in lines), lines


def test_the_name_of_an_argument_may_have_a_dash():
    found = parsed(
        "args: {dry-run: {type: boolean, default: false}}\n"
        "steps: [{id: a, run: \"echo {{ args['dry-run'] }}\"}]"
    )
    assert found.args["dry-run"]["default"] is False


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("args.dry-run", r"a name with a - in it is written args\['dry-run'\]"),
        ("steps.my-step.stdout", r"a name with a - in it is written steps\['my-step'\]"),
    ],
)
def test_a_name_with_a_dash_behind_a_dot_is_told_how_it_is_written(named, told):
    with pytest.raises(BrokenWorkflow, match=told):
        parsed(
            "args: {dry-run: {}}\nsteps:\n- {id: my-step, run: x}\n"
            f"- {{id: b, run: 'echo {{{{ {named} }}}}'}}"
        )
