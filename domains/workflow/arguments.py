"""The arguments of a run, against what its workflow says of them in JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import islice
from typing import Any

import msgspec

from daemon.core.errors import BadRequest
from domains.workflow.definition import NESTED, Definition, Json, is_too_deep
from domains.workflow.filters import kind_of
from domains.workflow.patterns import MAX_TEXT, BadPattern, Pattern
from domains.workflow.problems import meant, shown

MAX_BYTES = 256 * 1024
"""Of all arguments of a run together, as JSON."""

MAX_MATCHED = 64 * 1024
"""In characters: how much of them is matched with patterns."""

TOO_LONG = f"is too long for a pattern; at most {MAX_TEXT:,} characters"

MOST_ARGUMENTS = 100
MOST_TOLD = 20

KEYWORDS = (
    *("type", "enum", "const", "default", "title", "description", "examples", "deprecated"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "format"),
    *("items", "minItems", "maxItems", "uniqueItems"),
    *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    *("anyOf", "oneOf", "allOf", "not"),
)
"""The words of JSON Schema that are known: those without references to elsewhere."""

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")

Wrong = tuple[str, str, tuple[str, ...]]
"""The keyword that something is wrong with, what it is, and what is allowed."""


def wrong_with(schema: Mapping[str, Json]) -> list[Wrong]:
    """Give what is wrong with the schema of an argument; the first few things."""
    found = list(islice(_wrong(schema), MOST_TOLD))
    if found:
        return found
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415  # 10 MB

    validator = _validator()
    try:
        validator.check_schema(schema)
    except SchemaError as error:
        path = [str(key) for key in error.absolute_path]
        keyword = next((key for key in path if key in KEYWORDS), "")
        return [(keyword, f"{'.'.join(path) or 'it'}: {shown(error.message, 200)}", ())]
    if "default" not in schema:
        return []
    return [
        ("default", f"the default does not fit: {reason}", allowed)
        for reason, allowed in _errors(validator, schema, schema["default"], "")
    ]


def _wrong(schema: Mapping[str, Json]) -> Iterator[Wrong]:
    """Give the keywords that are not known, and the patterns that cannot be used."""
    for keyword, value in schema.items():
        if keyword not in KEYWORDS:
            hint = meant(keyword, KEYWORDS)
            yield keyword, f"{shown(keyword)!r} is not known{hint}", KEYWORDS
        elif keyword == "type" and isinstance(value, str) and value not in TYPES:
            yield keyword, f"type is {shown(value)!r}{meant(value, TYPES)}", TYPES
        elif keyword == "pattern" and isinstance(value, str):
            try:
                Pattern(value)
            except BadPattern as error:
                yield keyword, f"the pattern {error}", ("a plain regular expression",)
        else:
            for inner in _schemas_in(keyword, value):
                yield from ((keyword, reason, may) for _, reason, may in _wrong(inner))


def _schemas_in(keyword: str, value: Json) -> Iterator[Mapping[str, Json]]:
    """Give the schemas that stand behind a keyword."""
    found: Iterable[Json] = ()
    if keyword == "properties" and isinstance(value, Mapping):
        found = value.values()
    elif keyword in {"anyOf", "oneOf", "allOf"} and isinstance(value, list):
        found = value
    elif keyword in {"items", "additionalProperties", "not"}:
        found = (value,)
    yield from (one for one in found if isinstance(one, Mapping))


def check(definition: Definition, given: Json) -> dict[str, Json]:
    """Give a run's arguments, with the defaults of those that were not given, null without one.

    BadRequest names each that does not fit, and what is allowed. Null is as good as not given,
    where null is not allowed. It is for a thread: large arguments take their time.
    """
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise BadRequest(f"the arguments are {kind_of(given)}; allowed: names with values")
    _small(given)
    known = definition.args
    validator = _validator()
    problems: list[tuple[str, str, tuple[str, ...]]] = [
        (
            str(name),
            f"there is no argument {shown(str(name))!r}{meant(str(name), known)}",
            tuple(known),
        )
        for name in given
        if name not in known
    ]
    made: dict[str, Json] = {}
    for name, schema in known.items():
        value = given.get(name)
        if value is None and (name not in given or not _fits(validator, schema)):
            if name in definition.required:
                problems.append((name, f"the argument {name} is missing", (_summary(schema),)))
            made[name] = deepcopy(schema.get("default"))
            continue
        made[name] = value
        problems += [
            (name, f"the argument {reason}", allowed)
            for reason, allowed in _errors(validator, schema, value, name)
        ]
    _raise_if_any(problems)
    return made


def kept(definition: Definition, args: dict[str, Json]) -> dict[str, Json]:
    """Give the arguments of a run that goes on: its own, and the defaults of those that are new."""
    schemas = definition.args.items()
    new = {name: deepcopy(schema.get("default")) for name, schema in schemas if name not in args}
    return {**args, **new}


def _small(given: dict[Any, Json]) -> None:
    try:
        size = len(msgspec.json.encode(given))
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise BadRequest("the arguments cannot be written as JSON; allowed: plain data") from None
    if size > MAX_BYTES:
        raise BadRequest(
            f"the arguments have {size:,} bytes; allowed: at most {MAX_BYTES:,} in all"
        )
    if is_too_deep(given):
        raise BadRequest(f"the arguments are nested too deeply; allowed: {NESTED} levels")


def _raise_if_any(problems: list[tuple[str, str, tuple[str, ...]]]) -> None:
    if not problems:
        return
    told = [
        {"name": shown(name), "message": reason, "allowed": list(allowed)}
        for name, reason, allowed in problems[:MOST_TOLD]
    ]
    _, first, allowed = problems[0]
    also = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    may = f"; allowed: {', '.join(allowed)}" if allowed else ""
    raise BadRequest(f"{first}{may}{also}", arguments=told)


def _fits(validator: Any, schema: Mapping[str, Json]) -> bool:
    """Tell whether null is a value for it."""
    return bool(validator(schema).is_valid(None))


def _errors(
    validator: Any, schema: Mapping[str, Json], value: Json, name: str
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give what does not fit, without the value itself: it may be a secret."""
    try:
        for error in islice(validator(schema).iter_errors(value), MOST_TOLD):
            steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.path]
            at = shown(name + "".join(steps), 100) or "it"
            yield f"{at} {_reason(error)}", (_allowed(error),)
    except RecursionError:
        yield f"{name} is nested too deeply", ()
    except OverflowError:
        yield f"{name} has a number that is too large", ()


def _reason(error: Any) -> str:
    if error.validator == "type":
        return f"is {kind_of(error.instance)}"
    if error.validator == "required":
        lacks = [key for key in error.validator_value if key not in error.instance]
        return f"has no {', '.join(map(shown, lacks[:10]))}"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        odd = [key for key in error.instance if key not in known]
        return f"has {', '.join(map(shown, odd[:10]))}, which it must not"
    return TOO_LONG if error.message == TOO_LONG else "does not fit"


def _allowed(error: Any) -> str:
    may = shown(f"{error.validator} {_json(error.validator_value)}", 300)
    if error.validator != "type" or isinstance(error.instance, list | dict):
        return may
    wanted = error.validator_value
    is_text = "string" in ([wanted] if isinstance(wanted, str) else wanted)
    return f"{may} (put it in quotes)" if is_text else may


def _summary(schema: Mapping[str, Json]) -> str:
    """Say what an argument may be."""
    for keyword in ("enum", "const", "type"):
        if keyword in schema:
            return shown(f"{keyword} {_json(schema[keyword])}", 300)
    return "any value"


def _json(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _validator() -> Any:
    """Give a validator with patterns and unique items that cannot take long, for one check."""
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415  # 10 MB
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    matched = 0

    def pattern(_: Any, source: str, value: Json, __: Any) -> Iterator[ValidationError]:
        nonlocal matched
        if not isinstance(value, str):
            return
        matched += len(value)
        if matched > MAX_MATCHED or len(value) > MAX_TEXT:
            yield ValidationError(TOO_LONG)
        elif not Pattern(source).search(value):
            yield ValidationError("does not fit")

    def unique(_: Any, wanted: bool, value: Json, __: Any) -> Iterator[ValidationError]:
        if not wanted or not isinstance(value, list):
            return
        texts = {msgspec.json.encode(item, order="sorted") for item in value}
        if len(texts) < len(value):
            yield ValidationError("has items twice")

    extend: Any = validators.extend  # not typed
    return extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})
