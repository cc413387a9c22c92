"""Text that is made to take long: parsers are done soon, and others have their turns meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from flows import Flows
from loop_watch import allowed

from daemon.core.errors import BadRequest
from domains.workflow import durations, python_file, yaml_file
from domains.workflow.expressions import Expressions
from domains.workflow.library import Source
from domains.workflow.patterns import BadPattern, Pattern
from domains.workflow.steps.marks import Marks
from domains.workflow.templates import split

MEBI = 1 << 20
TRIES = 4

MEMORY = 100 << 20

T = TypeVar("T")

STEP = "steps:\n- id: a\n  run: "
ARGS = "args: {a: {%s}}\nsteps: [{id: a, run: x}]"
FUNCTION = "from domains.workflow import workflow\n@workflow\nasync def it(run):\n"

YAML = {
    "sequences in one another": "[" * MEBI,
    "mappings in one another": "{" * MEBI,
    "items in one another": "- " * (MEBI // 2),
    "keys in one another": "? " * (MEBI // 2),
    "lists of lists": "[a," * (MEBI // 3),
    "blanks": " " * MEBI,
    "newlines": "\n" * MEBI,
    "line separators": "\u2028" * (MEBI // 3),
    "comments": "#\n" * (MEBI // 2),
    "anchors": "&a " * (MEBI // 3),
    "aliases": "*a " * (MEBI // 3),
    "a billion laughs": "a: &a [x]\n"
    + "".join(f"b{n}: &b{n} [{','.join(['*a'] * 9)}]\n" for n in range(9)),
    "merge keys": "a: &a {b: c}\nd:\n" + "  <<: *a\n" * (MEBI // 10),
    "tags": "!" * MEBI,
    "directives": "".join(f"%TAG !a{n}! x\n" for n in range(MEBI // 18)),
    "an open quote": ('"' + "\\n" * MEBI)[:MEBI],
    "escapes": ('"' + "\\ud83d\\ude00" * MEBI)[: MEBI - 4] + '"',
    "newlines in quotes": "'" + "\n" * (MEBI - 2) + "'",
    "a literal text": "a: |\n" + " x\n" * (MEBI // 3 - 2),
    "a folded text": "a: >\n" + " x\n" * (MEBI // 3 - 2),
    "words": "a " * (MEBI // 2),
    "words on lines": "a\n" * (MEBI // 2),
    "colons": ":" * MEBI,
    "words with colons": "a:" * (MEBI // 2),
    "question marks": "[" + "a?b " * (MEBI // 4 - 1) + "]",
    "documents": "---\n" * (MEBI // 4),
    "keys": "".join(f"k{n}: 1\n" for n in range(MEBI // 12)),
    "one key many times": "a: 1\n" * (MEBI // 5),
    "emoji": "\U0001f600" * (MEBI // 4),
    "digits": "a: " + "1" * (MEBI - 3),
    "digits around a point": "a: " + "1" * (MEBI // 2) + "." + "1" * (MEBI // 2 - 4),
    "a long command": STEP + "x" * (MEBI - 40),
    "commands": STEP + "|\n" + "    echo x\n" * (MEBI // 11 - 5),
    "steps": "steps:\n" + "".join(f"- {{id: a{n}, run: x}}\n" for n in range(4000)),
    "steps of no kind": "steps:\n" + "".join(f"- {{id: a{n}, rum: x}}\n" for n in range(4000)),
    "items": "steps:\n- id: a\n  steps: []\n  for-each: [" + "3.10," * 19_000 + "]",
    "phases": f"phases: [{','.join(f'p{n}' for n in range(19_000))}]\nsteps: []",
    "variables": f"env: {{{','.join(f'p{n}: 1' for n in range(9000))}}}\nsteps: []",
    "expressions": STEP + '"' + "{{ args.x }} " * 70_000 + '"',
    "braces": STEP + "'" + "{{" * (MEBI // 4) + "'",
    "statements": STEP + "'" + "{%" * (30 << 10) + "'",
    "comments in a template": STEP + "'" + "{#" * (30 << 10) + "'",
    "raw blocks": STEP + "'" + "{% raw %}" * (7 << 10) + "'",
    "quotes of the shell": STEP + "|\n    echo {{ run.id }} " + "'\"\\" * (20 << 10),
    "substitutions": STEP + "|\n    echo {{ run.id }} " + "$(" * (30 << 10),
    "backslashes": STEP + "|\n    echo {{ run.id }} " + "\\ " * (30 << 10),
    "names that are nearly right": STEP + '"' + "{{ arg.x }} " * 490 + '"',
    "a pattern of all its states": ARGS % f"pattern: '(a?){{190}}b', default: {'a' * 4000}",
    "a pattern of many repetitions": ARGS % ("pattern: '" + "[a-z]{0,9}" * 50 + "'"),
    "values": ARGS % f"enum: [{'1,' * 18_000}]",
    "unlike items": ARGS
    % (
        "type: array, uniqueItems: true, default: [" + ",".join(f"[{n}]" for n in range(9000)) + "]"
    ),
    "schemas": ARGS % f"anyOf: [{'{type: string},' * 4000}], default: 1",
}

PYTHON = {
    "items": " x=[" + "0," * 30_000 + "]",
    "sums": " x=" + "1+" * 30_000 + "1",
    "functions": " x=" + "lambda:" * 9000 + "0",
    "brackets": " x=" + "[" * 60_000,
    "attributes": " x=a" + ".a" * 30_000,
    "denials": " x=" + "not " * 15_000 + "1",
    "signs": " x=" + "-" * 60_000 + "1",
    "digits": " x=" + "9" * 60_000,
    "hexadecimal digits": " x=0x" + "f" * 60_000,
    "braces in a text": ' x=f"' + "{a}" * 20_000 + '"',
    "loops": " x=[0 " + "for x in y " * 5000 + "]",
    "branches": " if a: pass\n" + " elif a: pass\n" * 4500,
    "handlers": " try: pass\n" + " except A: pass\n" * 4000,
    "statements": " a" + ";a" * 30_000,
    "comparisons": " x=a" + "==a" * 15_000,
    "powers": " x=" + "+".join("2**120" for _ in range(7000)),
    "patterns": " match a:\n" + "  case [1,2,3,*_]: pass\n" * 2500,
    "blanks": " " * 60_000,
    "lines that go on": " x=" + "\\\n" * 30_000 + "1",
    "newlines": "\n" * 60_000,
}

EXPRESSIONS = {
    "a long name": "{{ " + "a" * MEBI + " }}",
    "denials": "{{ " + "not " * 2000 + "a }}",
    "parentheses": "{{ " + "(" * 4000,
    "keys": "{{ a" + ".a" * 4000 + " }}",
    "sums": "{{ a" + "+a" * 4000 + " }}",
    "filters": "{{ a" + "|trim" * 1500 + " }}",
    "quotes": "{{ '" + "\\'" * 4000 + "' }}",
    "digits": "{{ " + "1" * 8000 + " }}",
    "digits with signs between them": "{{ " + "1_" * 4000 + " }}",
    "a large exponent": "{{ " + "1" * 4000 + "e1 }}",
    "blanks": "{{" + " " * 8000 + "}}",
}

TEMPLATES = {
    "an open brace": "{{" + "x" * MEBI,
    "braces": "{" * MEBI,
    "statements with blanks": ("{%" + " " * 100) * (MEBI // 102),
    "a statement with blanks": "{%" + " " * MEBI,
    "signs that trim": "{%- " * (MEBI // 4),
    "quotes": "{{ '" * (MEBI // 4),
    "backslashes": '{{"' + "\\" * MEBI,
    "texts": "{{" + "'a'" * (MEBI // 3),
}

DURATIONS = ["1" * MEBI, "1h" * (MEBI // 2), " " * MEBI, "1." * (MEBI // 2), "1h " * (MEBI // 3)]

PATTERNS = ["(a+)+b", "(a|a)*b", "(a?){190}", "a*" * 150 + "b", "(" * 400, "[" * 400, "a{1,9999}"]

MARKS = {
    "begun": b"\x1b]9;4;1;" * (MEBI // 8),
    "escapes": b"\x1b" * MEBI,
    "whole": b"\x1b]9;4;1;1\x07" * (MEBI // 10),
    "digits": b"\x1b]9;4;1;" + b"1" * MEBI,
}


def _yaml(text: str) -> None:
    yaml_file.parse(text.encode()[:MEBI], id="w", path="w.yaml")


def _python(text: str) -> None:
    python_file.read(Source("w", "w.py", "python", (FUNCTION + text).encode()[: 64 << 10]))


def _pattern(source: str) -> None:
    pattern = Pattern(source)
    pattern.search("a" * 4096)


def _marks(data: bytes) -> None:
    marks = Marks()
    for at in range(0, len(data), 4093):
        marks.feed(data[at : at + 4093])
    marks.feed(data)


Case = tuple[Callable[..., object], str | bytes]

CASES: dict[str, Case] = {
    **{f"yaml: {name}": (_yaml, text) for name, text in YAML.items()},
    **{f"python: {name}": (_python, text) for name, text in PYTHON.items()},
    **{f"expression: {name}": (Expressions().check, text) for name, text in EXPRESSIONS.items()},
    **{f"template: {name}": (split, text[: 64 << 10]) for name, text in TEMPLATES.items()},
    **{f"duration: {n}": (durations.parse, text) for n, text in enumerate(DURATIONS)},
    **{f"pattern: {n}": (_pattern, text) for n, text in enumerate(PATTERNS)},
    **{f"marks: {name}": (_marks, data) for name, data in MARKS.items()},
}


def attempt(name: str) -> None:
    """Parse one of them; that it is refused is as good."""
    parse, text = CASES[name]
    with suppress(BadRequest, BadPattern):
        parse(text)


async def held_up(work: Callable[[], Awaitable[T]]) -> T:
    """Do some work, and fail if meanwhile the loop was held up for longer than it may be.

    What holds it up does so each time: a hold that another try does not have was of something else,
    such as a collection of the whole test process's garbage.
    """
    found = []
    for _ in range(TRIES):
        longest = 0.0

        async def beat() -> None:
            nonlocal longest
            last = time.process_time()
            while True:
                await asyncio.sleep(0.001)
                now = time.process_time()
                longest, last = max(longest, now - last), now

        beating = asyncio.ensure_future(beat())
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(120):
                result = await work()
            await asyncio.sleep(0.002)
        finally:
            beating.cancel()
        if longest < allowed():
            return result
        found.append(f"{longest * 1000:.0f} ms")
    raise AssertionError(found)


@pytest.mark.parametrize("name", CASES)
async def test_a_parser_holds_up_nobody_whatever_the_text(name):
    attempt("yaml: blanks")  # what it imports is there
    await held_up(lambda: asyncio.to_thread(attempt, name))


def test_no_text_takes_much_memory():
    script = (
        "import resource, sys; sys.path[:0] = sys.argv[1:]\n"
        "import test_hostile_text as own\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "own.attempt('yaml: blanks'); own.attempt('yaml: unlike items'); before = peak()\n"
        "for name in own.CASES: own.attempt(name)\n"
        "print((peak() - before) << 10)\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(here), str(here.parents[1])],
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert int(done.stdout) < MEMORY


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


async def test_a_daemon_serves_others_while_hostile_files_are_listed(flows):
    folder = flows.write("good", "- {id: one, run: 'true'}").parent
    for n, name in enumerate(("newlines", "words on lines", "escapes", "expressions")):
        (folder / f"w{n}.yaml").write_text(YAML[name])
    for n, name in enumerate(("items", "braces in a text", "statements")):
        (folder / f"p{n}.py").write_text(FUNCTION + PYTHON[name])
    asked = {"projectId": flows.project}
    found = await held_up(lambda: flows.client.call("workflow.list", asked))
    broken = {each["id"] for each in found["workflows"] if "problem" in each}
    assert broken == {*(f"w{n}" for n in range(4)), *(f"p{n}" for n in range(3))}


async def test_a_daemon_serves_others_while_a_step_is_rendered_from_large_values(flows):
    flows.write(
        "large",
        """
        - id: list
          run: |
            python3 -c "print('[' + ','.join(str(n % 7) for n in range(120000)) + ']')"
        - {id: unique, annotation: "{{ steps.list.json | unique | sort | json }}"}
        - {id: same, if: steps.list.json == steps.list.json, annotation: "same"}
        - {id: lines, annotation: "{{ steps.list.stdout | upper | lines | length }}"}
        - id: many
          parallel: true
          steps:
            - {id: one, annotation: "{{ steps.list.json | unique | length }}"}
            - {id: two, annotation: "{{ steps.list.json | unique | length }}"}
        """,
    )
    flow = await held_up(lambda: flows.done("large"))
    end = flow.seen[-1]
    assert end.type == "workflow.run.completed", end
    said = [each["message"] for each in flow.told("annotation")]
    assert sorted(said) == ["1", "7", "7", "[0,1,2,3,4,5,6]", "same"]


async def test_a_daemon_serves_others_while_a_step_writes_marks_of_progress(flows):
    flows.write(
        "marks",
        r"""
        - id: a
          run: |
            python3 -c "print('\033]9;4;1;7\a' * 50000 + '\033]9;4;1;' * 60000)"
        """,
    )
    flow = await held_up(lambda: flows.done("marks"))
    end = flow.seen[-1]
    assert end.type == "workflow.run.completed", end
    assert flow.told("step.progress")[-1]["progress"]["percentage"] == 7
