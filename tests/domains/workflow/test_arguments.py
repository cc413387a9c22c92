"""The arguments of a run: what fits goes in with the defaults, what does not is named."""

from __future__ import annotations

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from daemon.core.errors import BadRequest
from domains.workflow import arguments
from domains.workflow.definition import Definition


def workflow(required=None, **args):
    needed = [name for name, schema in args.items() if "default" not in schema]
    return Definition(
        id="w",
        name="w",
        path="w.yaml",
        language="yaml",
        digest="",
        args=args,
        required=tuple(needed if required is None else required),
    )


def refused(definition, given):
    with pytest.raises(BadRequest) as caught:
        arguments.check(definition, given)
    return caught.value


def test_defaults_are_filled_in_and_not_shared():
    ship = workflow(
        required=["spec"],
        spec={"type": "string"},
        branch={"type": "string", "default": "main"},
        tags={"type": "array", "default": ["a"]},
        note={"type": "string"},
    )
    made = arguments.check(ship, {"spec": "x"})
    assert made == {"spec": "x", "branch": "main", "tags": ["a"], "note": None}
    made["tags"].append("b")
    assert arguments.check(ship, {"spec": "x"})["tags"] == ["a"]
    assert arguments.check(ship, {"spec": "x", "branch": "dev"})["branch"] == "dev"


def test_null_is_not_given_where_null_is_not_allowed():
    ship = workflow(
        a={"type": ["string", "null"], "default": "x"}, b={"type": "string", "default": "y"}, c={}
    )
    assert arguments.check(ship, {"a": None, "b": None, "c": None}) == {
        "a": None,
        "b": "y",
        "c": None,
    }
    assert (
        "the argument s is missing; allowed: type string"
        in refused(workflow(s={"type": "string"}), {"s": None}).message
    )


def test_a_workflow_without_arguments_takes_none():
    assert arguments.check(workflow(), None) == {}
    assert arguments.check(workflow(), {}) == {}


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        ({"type": "string"}, 5, "the argument x is a number; allowed: type string"),
        ({"type": ["string", "null"]}, [], 'x is a list; allowed: type ["string","null"]'),
        ({"enum": ["a", "b"]}, "c", 'x does not fit; allowed: enum ["a","b"]'),
        ({"const": 1}, 2, "x does not fit; allowed: const 1"),
        ({"type": "integer", "minimum": 1}, 0, "x does not fit; allowed: minimum 1"),
        ({"type": "integer"}, True, "x is a boolean; allowed: type integer"),
        ({"maxLength": 2}, "abc", "x does not fit; allowed: maxLength 2"),
        ({"pattern": "^a+$"}, "ab", "x does not fit; allowed: pattern ^a+$"),
        ({"items": {"type": "string"}}, ["a", 1], "x[1] is a number; allowed: type string"),
        ({"maxItems": 1}, [1, 2], "x does not fit; allowed: maxItems 1"),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], "allowed: uniqueItems true"),
        (
            {"properties": {"a": {"type": "string"}}},
            {"a": 1},
            "x.a is a number; allowed: type string",
        ),
        ({"required": ["a", "b"]}, {"a": 1}, 'x has no b; allowed: required ["a","b"]'),
        ({"additionalProperties": False}, {"zz": 1}, "x has zz, which it must not"),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            [],
            "x does not fit; allowed: anyOf",
        ),
        ({"not": {"type": "string"}}, "a", "x does not fit; allowed: not"),
    ],
)
def test_what_does_not_fit_is_named_with_what_is_allowed(schema, value, says):
    error = refused(workflow(x=schema), {"x": value})
    assert says in error.message
    assert error.details["arguments"][0]["name"] == "x"


def test_values_are_not_told_since_they_may_be_secret():
    error = refused(
        workflow(x={"enum": ["a"]}, y={"pattern": "^a$"}), {"x": "hunter2", "y": "hunter2"}
    )
    assert "hunter2" not in f"{error.message} {error.details}"


def test_unknown_and_missing_arguments_are_named():
    ship = workflow(spec={"type": "string"}, count={"type": "integer"})
    error = refused(ship, {"spce": "x"})
    assert error.message == (
        "there is no argument 'spce'; did you mean spec?; allowed: spec, count (and 2 more)"
    )
    assert [one["name"] for one in error.details["arguments"]] == ["spce", "spec", "count"]
    many = refused(ship, {f"a{n}": 1 for n in range(100)})
    assert len(many.details["arguments"]) == 20


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "the arguments are a list; allowed: names with values"),
        ("x", "the arguments are a text"),
        ({"x": "a" * 262_144}, "bytes; allowed: at most 262,144 in all"),
        ({"x": float("nan"), "y": object()}, "cannot be written as JSON"),
        ({"x": "\ud800"}, "cannot be written as JSON"),
    ],
)
def test_what_is_no_data_or_too_much_of_it_is_refused(given, says):
    assert says in refused(workflow(x={}), given).message


def test_data_nested_deeper_than_python_goes_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert "cannot be written as JSON" in refused(workflow(x={}), {"x": deep}).message
    while deep:
        deep = deep.pop()  # so that it goes without recursion


def test_a_number_that_is_too_large_to_reckon_with_is_refused():
    assert "too large" in refused(workflow(x={"multipleOf": 0.1}), {"x": 10**400}).message


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(.*a){10}$"])
def test_a_pattern_that_would_take_for_ever_comes_to_an_end(pattern):
    ship = workflow(x={"pattern": pattern}, y={"items": {"pattern": pattern}})
    assert "x does not fit" in refused(ship, {"x": "a" * 1000 + "b", "y": []}).message
    assert "x is too long for a pattern" in refused(ship, {"x": "a" * 5000, "y": []}).message
    many = refused(ship, {"x": "a", "y": ["a" * 4000] * 20}).details["arguments"]
    assert "y[19] is too long for a pattern" in many[-1]["message"]


def test_many_items_that_cannot_be_hashed_are_compared_in_one_go():
    ship = workflow(x={"uniqueItems": True})
    items = [[n] if n % 2 else {"n": n} for n in range(15_000)]
    assert arguments.check(ship, {"x": items})["x"] == items


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"typ": "string"}, "'typ' is not known; did you mean type?"),
        ({"$ref": "file:///etc/passwd"}, "'$ref' is not known"),
        ({"$schema": "http://example.org"}, "'$schema' is not known"),
        ({"anyOf": [{"allOf": [{"$ref": "#"}]}]}, "'$ref' is not known"),
        ({"properties": {"a": {"not": {"$id": "x"}}}}, "'$id' is not known"),
        ({"patternProperties": {"(a+)+": {}}}, "'patternProperties' is not known"),
        ({"type": 5}, "type: 5 is not valid"),
        ({"items": []}, "items: "),
        ({"pattern": "(?=a)"}, "the pattern looks around"),
        ({"items": {"pattern": "["}}, "the pattern has"),
        ({"type": "integer", "default": "1"}, "the default does not fit: it is a text"),
    ],
)
def test_what_is_wrong_with_a_schema_is_told(schema, says):
    assert says in arguments.wrong_with(schema)[0][1]


def test_a_sound_schema_has_nothing_wrong():
    assert arguments.wrong_with({"type": "array", "items": {"enum": [1]}, "default": [1]}) == []


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=1), inner, max_size=3)
    ),
    max_leaves=5,
)


@hypothesis_given(st.dictionaries(st.sampled_from("abc"), json_values))
def test_any_data_fits_or_is_refused(data):
    ship = workflow(
        a={"type": "string", "pattern": "^a"}, b={"default": 1}, c={"uniqueItems": True}
    )
    try:
        made = arguments.check(ship, data)
    except BadRequest:
        return
    assert list(made) == ["a", "b", "c"]
