"""What can be started, and what no program can be given."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import BadRequest
from daemon.core.program import Program, specification


def program(**fields):
    return Program(**{"argv": ["true"], "cwd": "/", "env": {}, **fields})


def test_a_specification_is_its_length_and_the_fields():
    encoded = specification(program(argv=["a", "b"], env={"K": "v"}, limits={"nofile": 64}))
    assert int.from_bytes(encoded[:4], "big") == len(encoded) - 4
    assert json.loads(encoded[4:]) == {
        "argv": ["a", "b"],
        "cwd": "/",
        "env": {"K": "v"},
        "path": "",
        "umask": None,
        "limits": {"nofile": 64},
        "record": "",
        "cgroup": "",
        "home": "",
        "terminal": "",
    }


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"argv": []}, "begins with its name"),
        ({"argv": [""]}, "begins with its name"),
        ({"argv": "true"}, "list of arguments"),
        ({"argv": ["a", 1]}, "must be a string"),
        ({"argv": ["a", "b\0c"]}, "NUL"),
        ({"argv": ["a", "\ud800"]}, "encoded"),
        ({"cwd": "relative"}, "absolute"),
        ({"cwd": "/a\0"}, "NUL"),
        ({"env": {"": "v"}}, "name in the environment"),
        ({"env": {"a=b": "v"}}, "name in the environment"),
        ({"env": {"a": "v\0"}}, "NUL"),
        ({"env": {"a": None}}, "must be a string"),
        ({"umask": -1}, "umask"),
        ({"umask": 0o1000}, "umask"),
        ({"limits": {"nosuch": 1}}, "no limit"),
        ({"limits": {"nofile": -2}}, "no limit"),
    ],
)
def test_what_no_program_can_be_given_is_refused_with_a_sentence(fields, told):
    with pytest.raises(BadRequest, match=told) as caught:
        specification(program(**fields))
    assert caught.value.message.endswith(".")


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\0" not in b), min_size=1, max_size=5))
def test_arguments_of_any_bytes_come_through(raw):
    encoded = specification(program(argv=[os.fsdecode(one) for one in raw]))
    assert [os.fsencode(one) for one in json.loads(encoded[4:])["argv"]] == raw
