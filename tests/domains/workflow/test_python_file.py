"""Workflow files in Python: what they become without being run, and what is wrong with others."""

from __future__ import annotations

import hashlib

import pytest

from domains.workflow.definition import Concurrency
from domains.workflow.library import Source
from domains.workflow.problems import BrokenWorkflow
from domains.workflow.python_file import FILE_BYTES, read

EXAMPLE = """\
from typing import Annotated, Any, Literal, Optional

from domains.workflow import workflow

raise SystemExit("nobody runs this to read it")


@workflow(
    name="Implement and review",
    phases=["implement", "review"],
    workspace="worktree",
    timeout="1h30m",
    concurrency={"key": "{{ args.spec }}", "limit": 2, "on_conflict": "reject"},
    env={"CI": True, "LEVEL": 3},
)
async def implement_review(
    run, spec: str, count: int = 3, *, ratio: float = 0.5, dry: bool = False,
    names: list[str], table: dict[str, int], how: Literal["a", "b"] = "a",
    maybe: Optional[str] = None, either: int | None = None, other: "list[int] | str" = "x",
    free: Any = {"x": [1]}, bare=None, noted: Annotated[str, "a note"] = "y",
    strange: set[int] = None,
):
    '''Implement it, then review it.'''
"""

HEAD = "from domains.workflow import workflow\n"


def source(text: str | bytes, path: str = ".agent/workflows/x.py") -> Source:
    return Source("x", path, "python", text if isinstance(text, bytes) else text.encode())


def wrong(text: str | bytes) -> str:
    with pytest.raises(BrokenWorkflow) as caught:
        read(source(text))
    return caught.value.message


def test_the_decorator_and_the_signature_are_the_definition():
    definition = read(source(EXAMPLE))
    assert definition.name == "Implement and review"
    assert definition.description == "Implement it, then review it."
    assert definition.language == "python"
    assert definition.digest == hashlib.sha256(EXAMPLE.encode()).hexdigest()
    assert definition.source == EXAMPLE
    assert definition.phases == ("implement", "review")
    assert (definition.workspace, definition.timeout) == ("worktree", 5400.0)
    assert definition.concurrency == Concurrency("{{ args.spec }}", 2, "reject")
    assert definition.env == {"CI": "true", "LEVEL": "3"}
    assert definition.required == ("spec", "names", "table")
    assert definition.args == {
        "spec": {"type": "string"},
        "count": {"type": "integer", "default": 3},
        "ratio": {"type": "number", "default": 0.5},
        "dry": {"type": "boolean", "default": False},
        "names": {"type": "array", "items": {"type": "string"}},
        "table": {"type": "object", "additionalProperties": {"type": "integer"}},
        "how": {"enum": ["a", "b"], "default": "a"},
        "maybe": {"type": ["string", "null"]},
        "either": {"type": ["integer", "null"]},
        "other": {
            "anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}],
            "default": "x",
        },
        "free": {"default": {"x": [1]}},
        "bare": {},
        "noted": {"type": "string", "default": "y"},
        "strange": {},
    }


@pytest.mark.parametrize(
    "text",
    [
        "from domains.workflow import workflow as flow\n@flow\nasync def f(run): ...",
        "import domains.workflow\n@domains.workflow.workflow()\nasync def f(run): ...",
        "import domains.workflow as w\n@w.workflow(name='')\nasync def f(run): ...",
        "from domains import workflow as w\n@w.workflow()\nasync def f(r, /): ...",
        "from domains.workflow.sdk import workflow\n@workflow\nasync def f(run): ...",
    ],
)
def test_the_decorator_is_known_however_it_was_imported(text):
    definition = read(source(text, ".agent/workflows/folder/named.py"))
    assert (definition.name, definition.args) == ("named", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "x.py:1: the file has no workflow; allowed: from domains.workflow import"),
        ("\n@workflow()\nasync def f(run): ...", "x.py:2: @workflow is not the one that is meant"),
        (HEAD + "def g():\n  @workflow\n  async def f(run): ...", "f is not at the top"),
        (HEAD + "@workflow\ndef f(run): ...", "x.py:3: f is not async; allowed: async def f(run)"),
        (HEAD + "@workflow\nasync def f(): ...", "x.py:3: f does not take the run"),
        (
            HEAD + "@workflow\nasync def f(run): ...\n\n@workflow\nasync def g(run): ...",
            "x.py:5: g is a second workflow",
        ),
        (HEAD + "@workflow\nasync def f(run, *a, **b): ...", "x.py:3: a cannot be given by name"),
        (HEAD + "@workflow\nasync def f(run, a=print()): ...", "default of a is not written out"),
        (HEAD + "@workflow\nasync def f(run, a: int = 'x'): ...", "a: the default does not fit"),
        (HEAD + "@workflow\nasync def f(run, a=10**99): ...", "default of a is not written out"),
        (HEAD + "@workflow(name=NAME)\nasync def f(run): ...", "name of @workflow is not written"),
        (HEAD + "@workflow('x')\nasync def f(run): ...", "arguments of @workflow have names"),
        (HEAD + "@workflow(phase=[])\nasync def f(run): ...", "take phase; did you mean phases?"),
        (HEAD + "@workflow(phases=[1])\nasync def f(run): ...", "phases of @workflow: expected"),
        (HEAD + "@workflow(phases=['a', 'a'])\nasync def f(run): ...", "a phase is listed twice"),
        (HEAD + "@workflow(timeout='soon')\nasync def f(run): ...", "timeout: 'soon' is no dur"),
        (HEAD + "@workflow(workspace='tree')\nasync def f(run): ...", "workspace is 'tree'"),
        (HEAD + "@workflow(concurrency={'x': 1})\nasync def f(run): ...", "concurrency: object"),
        (
            HEAD + "@workflow(concurrency='{{ args.n }}')\nasync def f(run, m): ...",
            "args.n: there is no such argument; allowed: m",
        ),
        (HEAD + "@workflow(concurrency='{{ steps.a }}')\nasync def f(run): ...", "steps"),
        (HEAD + "@workflow(concurrency='{{ 1 +')\nasync def f(run): ...", "x.py:2: {{ 1 +"),
        (HEAD + "async def f(run:\n", "x.py:2: the Python is broken: '(' was never closed"),
        ("return 1\n", "x.py:1: the Python is broken: 'return' outside function"),
        (b"\n\n# \xff", "x.py:3: the file is not UTF-8"),
        (b"\0", "the Python"),
        ("(" * 300, "too many nested parentheses"),
        ("-" * 50_000 + "1", "it is nested too deeply"),
        ("a" + ".a" * 30_000, "the Python cannot be read"),
        ("#" * (FILE_BYTES + 1), "x.py:1: the file has 65,537 bytes; allowed: at most 65,536"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_what_is_allowed(text, said):
    assert said in wrong(text)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(BrokenWorkflow) as caught:
        read(source(HEAD + "@workflow(nam='x', workspace='y')\nasync def f(run, a=b): ..."))
    assert [each["line"] for each in caught.value.details["problems"]] == [2, 3]
