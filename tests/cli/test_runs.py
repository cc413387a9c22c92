"""Arguments of a run as they are typed."""

from __future__ import annotations

import pytest

from daemon.cli.runs import values


class Daemon:
    """Answers with one workflow, whose argument has this schema."""

    def __init__(self, schema):
        self.schema = schema

    async def call(self, type_, data, /):
        assert (type_, data) == ("workflow.list", {"projectId": "p"})
        return {"workflows": [{"id": "w", "args": {"a": self.schema}}]}


@pytest.mark.parametrize(
    ("schema", "typed", "meant"),
    [
        ({"type": "string"}, "3.10", "3.10"),
        ({"type": "string"}, "true", "true"),
        ({"type": ["string", "null"]}, "3.10", "3.10"),
        ({"type": ["string", "null"]}, "true", "true"),
        ({"type": ["string", "null"]}, "null", None),
        ({}, "3.10", "3.10"),
        ({}, "1e3", "1e3"),
        ({}, "3.11", 3.11),
        ({}, "3", 3),
        ({}, "[1]", [1]),
        ({"type": "number"}, "3.10", 3.1),
        ({"type": ["string", "number"]}, "3.10", 3.1),
        ({"type": "integer"}, "7", 7),
        ({"type": "array"}, '["a"]', ["a"]),
    ],
)
async def test_an_argument_is_what_it_is_for_and_keeps_its_form_as_a_text(schema, typed, meant):
    found = (await values(Daemon(schema), "p", "w", {"a": typed}))["a"]
    assert (found, type(found)) == (meant, type(meant))
