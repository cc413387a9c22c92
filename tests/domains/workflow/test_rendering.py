"""The fields of a step as it runs."""

from __future__ import annotations

import pytest

from daemon.core.errors import BadRequest
from domains.workflow.definition import Step
from domains.workflow.rendering import rendered, variables

NAMES = {"args": {"n": 5, "who": "Ann & Bob", "list": ["a b", "c"], "up": "../x", "wait": "2m"}}


def fields(kind, **given):
    return rendered(Step(id="one", kind=kind, fields=given), NAMES)


def test_each_field_is_rendered_in_its_own_way():
    assert fields(
        "run", run="echo {{ args.who }}", cwd="x/{{ args.n }}", env={"N": "{{ args.n }}"}
    ) == {
        "run": "echo 'Ann & Bob'",
        "cwd": "x/5",
        "env": {"N": "5"},
    }
    assert fields(
        "agent", agent="claude", prompt="{{ args.n }}", allowed_tools=["{{ args.n }}"]
    ) == {
        "agent": "claude",
        "prompt": "5",
        "allowed_tools": ["5"],
    }
    assert fields("agent", prompt="a", budget_usd=0.5)["budget_usd"] == 0.5
    assert fields("git", git={"operation": "add", "paths": "{{ args.list }}"}) == {
        "git": {"operation": "add", "paths": ["a b", "c"]}
    }
    assert fields("workflow", workflow="w", args={"n": "{{ args.n }}"})["args"] == {"n": 5}
    assert fields("for-each", for_each="args.list", max_items=2)["for_each"] == ["a b", "c"]
    assert fields("sleep", sleep="{{ args.wait }}") == {"sleep": 120.0}
    assert fields("sleep", sleep=3.0) == {"sleep": 3.0}
    assert fields("wait-for", wait_for="ci.{{ args.n }}", match="event.ok") == {
        "wait_for": "ci.5",
        "match": "event.ok",
    }
    assert fields("annotation", annotation={"message": "{{ args.n }}", "level": "info"}) == {
        "annotation": {"message": "5", "level": "info"}
    }
    assert fields("artifact", artifact={"path": "{{ args.n }}/x", "name": "n{{ args.n }}"}) == {
        "artifact": {"path": "5/x", "name": "n5"}
    }
    assert fields("parallel", parallel=2) == {"parallel": 2}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"run": "echo {{ args.m }}"}, "one: run: args.m: there is: list, n, up, wait, who"),
        ({"cwd": "{{ args.up }}"}, "one: cwd: '../x' leads out of the project"),
        ({"artifact": {"path": "/{{ args.n }}"}}, "one: artifact: '/5' leads out of the project"),
        ({"for_each": "args.list", "max_items": 1}, "one: for_each: for-each got 2 items"),
        ({"sleep": "{{ args.who }}"}, "one: sleep: 'Ann & Bob' is no duration"),
        ({"sleep": "{{ args.list }}"}, "is no duration"),
        ({"env": {"A": "{{ '\\0' }}"}}, "one: env: a variable holds a NUL"),
        ({"env": {"A": "x" * 200_001}}, "200,002 bytes"),
    ],
)
def test_a_field_that_cannot_be_rendered_is_named(given, says):
    with pytest.raises(BadRequest) as caught:
        fields("run", **given)
    assert says in caught.value.message


def test_variables_are_texts():
    assert variables({"A": "{{ args.list }}", "B": "{{ none }}"}, NAMES) == {
        "A": '["a b","c"]',
        "B": "",
    }
