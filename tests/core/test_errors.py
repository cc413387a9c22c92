"""The tree of errors: what is drawn is what there is, and codes are for ever."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import daemon.app  # noqa: F401  # so that every error of the program is declared
from daemon.core import errors
from daemon.core.errors import AgentcmdError, SpawnFailed, error_classes

CODES = {
    *("unauthorized", "forbidden", "not_found", "bad_message", "bad_request", "invalid_channel"),
    *("unknown_command", "conflict", "rate_limited", "too_large", "unavailable", "internal"),
}
"""PROTOCOL.md, section 3."""


def test_the_codes_are_those_of_the_contract():
    assert {cls.code for cls in error_classes()} == CODES


def test_the_tree_drawn_on_top_is_the_tree():
    drawn = dict(re.findall(r"(\w+) {2,}([a-z_]+)$", errors.__doc__, re.MULTILINE))
    own = {cls.__name__: cls.code for cls in error_classes() if cls.__module__ == errors.__name__}
    assert drawn == own


def test_an_error_of_one_code_has_one_status():
    for code in CODES:
        statuses = {cls.status for cls in error_classes() if cls.code == code}
        assert len(statuses) == 1, code
        assert 400 <= statuses.pop() < 600


def test_every_error_has_a_sentence_of_its_own():
    for cls in error_classes():
        assert cls.__doc__.endswith("."), cls


def test_a_code_is_found_in_its_class_and_nowhere_else():
    source = ast.parse(Path(errors.__file__).read_text())
    declared = [
        node.value.value
        for cls in source.body
        if isinstance(cls, ast.ClassDef)
        for node in cls.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "code"
    ]
    assert len(declared) == len(set(declared))


def test_an_error_carries_its_sentence_and_its_facts():
    error = SpawnFailed("It could not be started; try again.", errno=2, reason="not_found")
    assert isinstance(error, AgentcmdError)
    assert str(error) == error.message == "It could not be started; try again."
    assert error.details == {"errno": 2, "reason": "not_found"}
    assert (error.code, int(error.status)) == ("unavailable", 503)
