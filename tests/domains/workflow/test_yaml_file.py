"""Workflow files in YAML: what they become, and what is said of those that are wrong."""

from __future__ import annotations

import hashlib
import json

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.workflow.definition import Concurrency, Definition, Retries
from domains.workflow.keys import TOP
from domains.workflow.problems import Problems
from domains.workflow.schema import json_schema
from domains.workflow.yaml_file import BrokenWorkflow, parse
from domains.workflow.yaml_tree import plain, read

EXAMPLE = """\
name: Implement and review
args:                      # JSON Schema properties; validated before the run starts
  spec: {type: string}
phases: [implement, review]
steps:
  - id: implement
    phase: implement
    agent: claude
    prompt: "Implement {{ args.spec }}"
    timeout-minutes: 30
  - id: test
    phase: implement
    run: pytest -q
    continue-on-error: true
    retries: {max: 2, backoff: 5s}
  - id: fix
    if: steps.test.exitCode != 0
    agent: claude
    session: implement        # go on in the same conversation
    prompt: "Tests fail:\\n{{ steps.test.stdout }}"
  - id: list
    run: git diff --name-only --diff-filter=d main -- '*.py' | jq -R . | jq -s .
  - id: files
    for-each: "{{ steps.list.json }}"
    max-parallel: 4
    steps: [{id: lint, run: "ruff check {{ item }}"}]
  - id: ship
    phase: review
    approve: "Open the pull request?"
  - id: commit
    git: {operation: commit, message: "feat: {{ args.spec }}"}
"""

EVERYTHING = """\
description: "{{ is }} just text here"
args:
  spec: {type: string, minLength: 1}
  branch: {type: string, pattern: "^[a-z]+(-[a-z]+)*$", default: main}
  note: {type: string, required: false}
  options: {type: object, required: [a], properties: {a: {type: integer}}}
workspace: worktree
timeout-minutes: 90
concurrency: {key: "ship-{{ args.branch }}", limit: 2, on-conflict: reject}
env: {PYTHON: 3.10, DEBUG: true, EMPTY: ""}
steps:
  - id: ask
    name: Ask it
    agent: "{{ args.note | default('claude') }}"
    prompt: |
      One {{ args.spec }}
      {# no more #}
    model: opus
    permission-mode: plan
    allowed-tools: [Read, "Bash({{ args.branch }}:*)"]
    system-prompt: Be short.
    budget-usd: 1.5
    env: {WHO: "{{ project.id }}"}
    cwd: src/{{ args.branch }}
  - id: both
    parallel: {max: 2}
    steps:
      - {id: lint, run: "lint {{ env.PYTHON }}"}
      - {id: unit, run: unit, retries: 3}
      - id: deeper
        parallel: true
        steps: [{id: a, run: a}, {id: b, run: b}]
  - {id: ok, approve: "{{ steps.unit.exitCode }}{{ steps.a.stdout }}?", otherwise: reject}
  - {id: ci, wait-for: {event: "ci.{{ args.branch }}", match: event.state == 'ok' and steps.ok}}
  - {id: any, wait-for: deploy}
  - {id: nap, sleep: 1h30m}
  - {id: wait, sleep: "{{ args.note }}"}
  - id: each
    for-each: [a, "{{ args.branch }}"]
    as: file
    max-items: 2
    steps:
      - id: inner
        for-each: file | lines
        steps:
          - {id: show, run: "show {{ file }} {{ item }} {{ index }} {{ steps['lint'].stdout }}"}
          - {id: after, if: "{{ steps.show.exitCode == 0 }}", run: "true"}
  - {id: child, workflow: other, args: {spec: "{{ args.spec }}", n: 1}}
  - {id: keep, artifact: "dist/{{ args.branch }}.whl"}
  - {id: keep2, artifact: {path: report.html, name: Report}}
  - {id: say, annotation: done}
  - {id: warn, annotation: {message: "{{ run.id }}", level: warning}}
  - {id: status, git: status}
"""


def parsed(text, path="ship.yaml"):
    return parse(text.encode() if isinstance(text, str) else text, id="ship", path=path)


def problems_of(text):
    with pytest.raises(BrokenWorkflow) as caught:
        parsed(text)
    return caught.value


def test_the_example_of_the_design_is_read():
    made = parsed(EXAMPLE)
    assert (made.id, made.path, made.language) == ("ship", "ship.yaml", "yaml")
    assert made.name == "Implement and review"
    assert made.digest == hashlib.sha256(EXAMPLE.encode()).hexdigest()
    assert made.args == {"spec": {"type": "string"}}
    assert made.required == ("spec",)
    assert made.phases == ("implement", "review")
    assert [(step.id, step.kind, step.line) for step in made.steps] == [
        ("implement", "agent", 6),
        ("test", "run", 11),
        ("fix", "agent", 16),
        ("list", "run", 21),
        ("files", "for-each", 23),
        ("ship", "approve", 27),
        ("commit", "git", 30),
    ]
    implement, test, fix, _, files, ship, commit = made.steps
    assert implement.timeout == 1800
    assert implement.fields == {"agent": "claude", "prompt": "Implement {{ args.spec }}"}
    assert test.continue_on_error
    assert test.retries == Retries(max=2, backoff=5.0)
    assert fix.condition == "steps.test.exitCode != 0"
    assert fix.fields["session"] == "implement"
    assert files.fields == {
        "for_each": "{{ steps.list.json }}",
        "max_parallel": 4,
        "max_items": 1000,
        "as": "item",
    }
    assert [(step.id, step.line) for step in files.steps] == [("lint", 26)]
    assert ship.fields == {"approve": "Open the pull request?", "otherwise": "fail"}
    assert commit.fields == {"git": {"operation": "commit", "message": "feat: {{ args.spec }}"}}


@pytest.mark.parametrize("text", [EXAMPLE, EVERYTHING])
def test_what_was_read_can_be_kept_with_a_run(text):
    made = parsed(text)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Definition) == made


def test_every_key_is_read():
    made = parsed(EVERYTHING)
    assert made.name == "ship"
    assert made.description == "{{ is }} just text here"
    assert made.required == ("spec", "options")
    assert made.args["note"] == {"type": "string"}
    assert made.args["options"]["required"] == ["a"]
    assert (made.workspace, made.timeout) == ("worktree", 5400)
    assert made.concurrency == Concurrency(
        key="ship-{{ args.branch }}", limit=2, on_conflict="reject"
    )
    assert made.env == {"PYTHON": "3.10", "DEBUG": "true", "EMPTY": ""}
    steps = {step.id: step for step in made.steps}
    assert steps["ask"].name == "Ask it"
    assert steps["ask"].fields == {
        "agent": "{{ args.note | default('claude') }}",
        "prompt": "One {{ args.spec }}\n{# no more #}\n",
        "model": "opus",
        "permission_mode": "plan",
        "allowed_tools": ["Read", "Bash({{ args.branch }}:*)"],
        "system_prompt": "Be short.",
        "budget_usd": 1.5,
        "env": {"WHO": "{{ project.id }}"},
        "cwd": "src/{{ args.branch }}",
    }
    assert steps["both"].fields == {"parallel": 2}
    assert steps["both"].steps[1].retries.max == 3
    assert steps["both"].steps[2].fields == {"parallel": 2}
    assert steps["ok"].fields["otherwise"] == "reject"
    assert steps["ci"].fields == {
        "wait_for": "ci.{{ args.branch }}",
        "match": "event.state == 'ok' and steps.ok",
    }
    assert steps["any"].fields == {"wait_for": "deploy"}
    assert steps["nap"].fields == {"sleep": 5400.0}
    assert steps["wait"].fields == {"sleep": "{{ args.note }}"}
    assert steps["each"].fields["for_each"] == ["a", "{{ args.branch }}"]
    assert steps["each"].fields["as"] == "file"
    assert steps["child"].fields == {
        "workflow": "other",
        "args": {"spec": "{{ args.spec }}", "n": 1},
    }
    assert steps["keep"].fields == {"artifact": {"path": "dist/{{ args.branch }}.whl"}}
    assert steps["keep2"].fields == {"artifact": {"path": "report.html", "name": "Report"}}
    assert steps["keep2"].name == ""
    assert steps["say"].fields == {"annotation": {"message": "done", "level": "info"}}
    assert steps["warn"].fields == {"annotation": {"message": "{{ run.id }}", "level": "warning"}}
    assert steps["status"].fields == {"git": {"operation": "status"}}


@pytest.mark.parametrize("text", [EXAMPLE, EVERYTHING])
def test_the_published_schema_takes_what_is_read(text):
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(plain(read(text.encode(), Problems())))) == []
    assert json.loads(json.dumps(json_schema())) == json_schema()


STEP = "steps:\n- {id: a, run: x}\n"

WRONG_TREES = [
    (b"", 1, "the file is empty"),
    (b"# only a comment\n", 1, "the file is empty"),
    (b"steps: [", 1, "this is no YAML"),
    (b"a: 1\n\tb: 2", 2, "indent with spaces, not with tabs"),
    (b"name: a: b", 1, "put a text with a colon and a space in it in quotes"),
    (b"name: %x", 1, "put a text that begins with {, [ or % in quotes"),
    (b"name: 'x\n\n", 3, "this is no YAML"),
    (b"a: 1\nb: \xff\n", 2, "the file is not UTF-8; allowed: text in UTF-8"),
    (b"\xff\xfes\x00", 1, "the file is not UTF-8"),
    (b"a: 1\nb: \x07", 2, "the character 0x07 cannot stand in YAML"),
    (b"a: &x 1", 1, "the anchor &x is not allowed: write out what is repeated"),
    (b"a: 1\nb: *x", 2, "the alias *x is not allowed: write out what it stands for"),
    (b"a: &a [*a]", 1, "the anchor &a is not allowed"),
    (b"a: !!python/object/apply:os.system [id]", 1, "the tag tag:yaml.org,2002:python/object"),
    (b"a: !!binary aGk=", 1, "the tag"),
    (b"a: !x 1", 1, "the tag !x is not allowed; allowed: plain data"),
    (b"a: 1\n---\nb: 2", 2, "a second document begins here; allowed: one document"),
    (b"name: x\nname: y\nsteps: [{id: a, run: x}]", 2, "name stands here twice, first in line 1"),
    (b"steps: {{ x }}", 1, "a value that begins with {{ stands in quotes"),
    (b"? [a]\n: b", 1, "a key is a list or a mapping"),
    (b"~: b", 1, "a key is missing"),
    (b"[" * 40 + b"]" * 40, 1, "this is nested too deeply; allowed: at most 30 levels"),
    (b"[" * 100_000, 1, "this is nested too deeply"),
    (b"- " * 100_000, 1, "this is nested too deeply"),
    (b"[" + b"1, " * 30_000 + b"]", 1, "the file holds too much; allowed: at most 20,000 values"),
    (b"x" * ((1 << 20) + 1), 1, "the file has 1,048,577 bytes; allowed: at most 1,048,576"),
    (b'a: "\\ud800"', 1, "a text has half a character in it"),
    (b'a: "x\\0"', 1, "a text has a NUL in it"),
    (b"just text", 1, "the file is 'just text'; allowed: name, description, args"),
    (b"- 1", 1, "the file is a list; allowed: name"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG_TREES)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text, line, says):
    error = problems_of(text)
    assert error.message.startswith(f"ship.yaml:{line}: ")
    assert says in error.message


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for here, before in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n"
    assert problems_of(bomb).details["line"] == 1


BOTH = """\
steps:
- {{id: q, agent: x, prompt: y}}
- id: p
  {}
  steps: [{{id: a, agent: x, prompt: y, session: q}}, {{id: b, agent: x, prompt: y, session: q}}]
"""

AT_ONCE = """\
steps:
- {id: q, agent: x, prompt: y}
- id: e
  for-each: [1]
  max-parallel: 2
  steps: [{id: a, agent: x, prompt: y, session: q}]
"""

BESIDE = """\
steps:
- id: p
  parallel: true
  steps:
  - {id: a, run: x}
  - {id: b, run: "x {{ steps.a.json }}"}
"""

INSIDE = """\
steps:
- {id: e, for-each: [1], steps: [{id: a, run: x}]}
- {id: b, run: "x {{ steps.a.json }}"}
"""

WRONG = [
    (
        "nmae: x\n" + STEP,
        1,
        "'nmae' is no key of the file; did you mean name?; allowed: name, desc",
    ),
    ("name: x\n", 1, "steps is missing in the file"),
    ("on: push\n" + STEP, 1, "'on' is no key of the file"),
    ("<<: {name: x}\n" + STEP, 1, "'<<' is no key of the file"),
    ("name: [x]\n" + STEP, 1, "name of the file is a list; allowed: a text"),
    ("name:\n" + STEP, 1, "name of the file is nothing; allowed: a text"),
    ("name: ' '\n" + STEP, 1, "allowed: a text"),
    ("name: " + "x" * 201 + "\n" + STEP, 1, "has 201 characters; allowed: at most 200"),
    ("name: '{{ args.x }}'\n" + STEP, 1, "is read before anything runs; allowed: no templates"),
    ("steps:\n", 1, "steps is nothing; allowed: a list with at least one step"),
    ("steps: []", 1, "steps is empty; allowed: a list with at least one step"),
    ("steps: {a: 1}", 1, "steps is a mapping"),
    ("phases: implement\n" + STEP, 1, "phases of the file is 'implement'; allowed: a list"),
    ("phases: [a, b, a]\n" + STEP, 1, "a stands twice in phases"),
    ("workspace: worktrees\n" + STEP, 1, "'worktrees'; allowed: stay, branch, worktree"),
    ("timeout-minutes: soon\n" + STEP, 1, "'soon'; allowed: a number from 0.01 to 527,040"),
    ("timeout-minutes: true\n" + STEP, 1, "timeout-minutes of the file is true; allowed: a number"),
    ("timeout-minutes: 0\n" + STEP, 1, "'0'; allowed: a number from"),
    ("concurrency: {limit: 0}\n" + STEP, 1, "'0'; allowed: a whole number from 1 to 1,000"),
    ("concurrency: {on-conflict: wait}\n" + STEP, 1, "'wait'; allowed: queue, replace, reject"),
    ("concurrency: '{{ steps.a }}'\n" + STEP, 1, "there is no steps here; allowed: args, project"),
    ("env: {1A: x}\n" + STEP, 1, "'1A' is no name in env"),
    ("env: {A: [1]}\n" + STEP, 1, "A in env of the file is a list; allowed: a text"),
    ("env: {A: }\n" + STEP, 1, "A in env of the file is nothing"),
    ("env: {A: '{{ args.x }}'}\n" + STEP, 1, "allowed: no templates"),
    # arguments
    ("args: [spec]\n" + STEP, 1, "args of the file is a list; allowed: names with values"),
    ("args: {a.b: {}}\n" + STEP, 1, "'a.b' is no name in args; allowed: a name of letters"),
    ("args: {spec: string}\n" + STEP, 1, "spec in args is 'string'; allowed: names with values"),
    ("args:\n  a: {}\n  b:\n    type: strin\n" + STEP, 4, "type is 'strin'; did you mean string?"),
    (
        "args: {a: {typ: string}}\n" + STEP,
        1,
        "'typ' is not known; did you mean type?; allowed: type",
    ),
    ("args: {a: {$ref: 'http://x/y'}}\n" + STEP, 1, "'$ref' is not known"),
    ("args: {a: {items: {$dynamicRef: '#x'}}}\n" + STEP, 1, "'$dynamicRef' is not known"),
    ("args: {a: {minLength: -1}}\n" + STEP, 1, "a in args: minLength: -1"),
    (
        "args: {a: {type: string, default: 5}}\n" + STEP,
        1,
        "the default does not fit: it is a number",
    ),
    ("args: {a: {required: true, default: 5}}\n" + STEP, 1, "required and has a default"),
    ("args: {a: {pattern: '(a)\\1'}}\n" + STEP, 1, "the pattern has"),
    ("args: {a: {pattern: '['}}\n" + STEP, 1, "the pattern has"),
    # steps
    ("steps:\n- run", 2, "a step is 'run'; allowed: a mapping with an id, agent, run"),
    ("steps:\n- {run: x}", 2, "id is missing in a step"),
    ("steps:\n- {id: a b, run: x}", 2, "'a b'; allowed: 1 to 64 letters, digits, _ and -"),
    ("steps:\n- {id: '', run: x}", 2, "allowed: 1 to 64 letters"),
    (STEP + "- {id: a, run: y}", 3, "there is another step 'a' before"),
    (
        "steps:\n- id: a\n  rnu: x",
        3,
        "step a does not say what it does; did you mean run?; allowed",
    ),
    ("steps:\n- id: a", 2, "step a does not say what it does; allowed: agent, run, git, approve"),
    ("steps:\n- id: a\n  run: x\n  git: y", 4, "step a is run and git: a step is one of them"),
    ("steps:\n- id: a\n  run: x\n  timout-minutes: 5", 4, "did you mean timeout-minutes?"),
    (
        "steps:\n- id: a\n  run: x\n  prompt: y",
        4,
        "'prompt' is no key of a step with run; it belongs to agent",
    ),
    ("steps:\n- id: a\n  sleep: 1\n  cwd: y", 4, "it belongs to agent, run"),
    ("steps:\n- id: a\n  run: x\n  uses: y", 4, "'uses' is no key of a step with run"),
    (
        "steps:\n- id: a\n  for-each: [1]\n  retries: 2\n  steps: [{id: b, run: x}]",
        4,
        "'retries' is no key of a step with for-each; the steps inside may have it",
    ),
    (
        "steps:\n- id: a\n  run: x\n  phase: one",
        4,
        "there is no phase 'one'; allowed: phases have to be",
    ),
    (
        "phases: [build]\nsteps:\n- id: a\n  run: x\n  phase: biuld",
        5,
        "did you mean build?; allowed: build",
    ),
    (
        "steps:\n- id: a\n  run: x\n  retries: {max: 2, backof: 1}",
        4,
        "did you mean backoff?; allowed: max",
    ),
    (
        "steps:\n- id: a\n  run: x\n  retries: {backoff: 1}",
        4,
        "max is missing in retries of step a",
    ),
    (
        "steps:\n- id: a\n  run: x\n  retries: {max: 2, backoff: soon}",
        4,
        "'soon' is no duration; allowed",
    ),
    ("steps:\n- id: a\n  run: x\n  retries: {max: 2, jitter: 2}", 4, "a number from 0 to 1"),
    ("steps:\n- id: a\n  run: x\n  continue-on-error: yes", 4, "'yes'; allowed: true, false"),
    ("steps:\n- id: a\n  run: x\n  cwd: ../y", 4, "cwd '../y' leads out of the project"),
    (
        "steps:\n- id: a\n  run: x\n  cwd: /y",
        4,
        "leads out of the project; allowed: a relative path",
    ),
    ("steps:\n- id: a\n  agent: claude", 2, "prompt is missing in step a"),
    ("steps:\n- id: a\n  agent: claude\n  prompt: ''", 4, "allowed: a text"),
    ("steps:\n- id: a\n  agent: x\n  prompt: y\n  budget-usd: 0", 5, "a number from 0.0001"),
    ("steps:\n- id: a\n  git: {message: x}", 3, "operation is missing in git of step a"),
    ("steps:\n- id: a\n  git: --upload-pack", 3, "a word such as commit or push"),
    (
        "steps:\n- id: a\n  approve: x\n  otherwise: maybe",
        4,
        "'maybe'; allowed: fail, approve, reject",
    ),
    ("steps:\n- id: a\n  wait-for: {match: event}", 3, "event is missing in wait-for of step a"),
    ("steps:\n- id: a\n  wait-for: {event: x, match: a b}", 3, "does not belong to the expression"),
    ("steps:\n- id: a\n  sleep: soon", 3, "'soon' is no duration; allowed: a number of seconds"),
    ("steps:\n- id: a\n  sleep: 1:30", 3, "'1:30' is no duration"),
    ("steps:\n- id: a\n  for-each: [1]", 2, "steps is missing in step a"),
    ("steps:\n- id: a\n  for-each: 5\n  steps: [{id: b, run: x}]", 3, "for-each of step a is '5'"),
    ("steps:\n- id: a\n  for-each: [1]\n  steps: []", 4, "steps of step a is empty"),
    (
        "steps:\n- id: a\n  for-each: [1]\n  max-parallel: 65\n  steps: [{id: b, run: x}]",
        4,
        "from 1 to 64",
    ),
    (
        "steps:\n- id: a\n  for-each: [1]\n  max-items: 10001\n  steps: [{id: b, run: x}]",
        4,
        "1 to 10,000",
    ),
    (
        "steps:\n- id: a\n  for-each: [1, 2]\n  max-items: 1\n  steps: [{id: b, run: x}]",
        3,
        "has 2 items",
    ),
    (
        "steps:\n- id: a\n  for-each: [1]\n  as: steps\n  steps: [{id: b, run: x}]",
        4,
        "a name of its own",
    ),
    (
        "steps:\n- id: a\n  parallel: 3\n  steps: [{id: b, run: x}]",
        3,
        "'3'; allowed: true, {max: N}",
    ),
    ("steps:\n- id: a\n  parallel: {max: 0}\n  steps: [{id: b, run: x}]", 3, "from 1 to 64"),
    (
        "steps:\n- id: a\n  annotation: {message: x, level: bad}",
        3,
        "'bad'; allowed: info, warning, error",
    ),
    ("steps:\n- id: a\n  artifact: ../../x", 3, "artifact '../../x' leads out of the project"),
    # templates
    ("steps:\n- id: a\n  run: 'x {{ 1 +'", 3, "}} is missing"),
    ("steps:\n- id: a\n  run: |\n    one\n    two {{ f() }}\n", 5, "calls are not allowed"),
    (
        'steps:\n- id: a\n  run: |\n    one\n    echo "{{ index }}"\n',
        5,
        "a template stands in quotes",
    ),
    ("steps:\n- id: a\n  if: steps.b.x ==\n  run: x", 3, "unexpected"),
    ("steps:\n- id: a\n  if: '{{ a }} {{ b }}'\n  run: x", 3, "one expression stands here"),
    (
        "steps:\n- id: a\n  run: x {{ itme }}",
        3,
        "there is no itme here; allowed: args, steps, run, env",
    ),
    ("steps:\n- id: a\n  run: x {{ event }}", 3, "there is no event here"),
    ("steps:\n- id: a\n  run: x {{ ''.__class__ }}", 3, "begins with an underscore"),
    ("steps:\n- id: a\n  agent: x\n  prompt: '{% for i in y %}'", 4, "is a statement"),
    (
        "steps:\n- id: a\n  run: x {{ args.spec }}",
        3,
        "args.spec: there is no such argument; allowed: nothing",
    ),
    (
        "args: {spec: {}}\nsteps:\n- id: a\n  run: x {{ args.spce }}",
        4,
        "did you mean spec?; allowed: spec",
    ),
    ("env: {AB: x}\nsteps:\n- id: a\n  run: x {{ env.AC }}", 4, "the file's env has no such name"),
    (
        STEP + "- id: b\n  run: x {{ steps.c.stdout }}",
        4,
        "steps.c: there is no such step; allowed: a",
    ),
    (
        "steps:\n- id: a\n  run: x {{ steps.a.stdout }}",
        3,
        "steps.a: a has not ended before this one",
    ),
    (
        "steps:\n- id: a\n  run: x {{ steps.test.stdout }}\n- {id: test, run: x}",
        3,
        "steps.test: test has not ended before this one; allowed: nothing yet",
    ),
    (
        "steps:\n- {id: a-b, run: x}\n- {id: c, run: 'x {{ steps.a-b.json }}'}",
        3,
        "written steps['a-b']",
    ),
    (BESIDE, 6, "steps.a: a has not ended before this one; allowed: nothing yet"),
    (INSIDE, 3, "steps.a: a has not ended before this one; allowed: e"),
    (
        "steps:\n- {id: p, parallel: true, steps: [{id: a, run: x}]}\n- {id: a, run: x}",
        3,
        "there is another step 'a' before",
    ),
    (
        STEP + "- {id: e, for-each: [1], steps: [{id: a, run: x}]}",
        3,
        "there is another step 'a' before",
    ),
    (
        STEP + "- {id: b, agent: x, prompt: y, session: a}",
        3,
        "session 'a' is no conversation that can go on here; allowed: none",
    ),
    (BOTH.format("parallel: true"), 5, "b speaks in session q at the same time as another"),
    (AT_ONCE, 6, "session 'q' is no conversation that can go on here; allowed: none"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_a_wrong_file_is_refused_with_line_reason_and_what_is_allowed(text, line, says):
    error = problems_of(text)
    assert [one["line"] for one in error.details["problems"]] == [line], error.details["problems"]
    assert error.message.startswith(f"ship.yaml:{line}: ")
    assert says in error.message
    assert error.code == "bad_request"
    assert json.loads(json.dumps(error.details)) == error.details


def test_all_problems_are_told_at_once_and_no_more_than_twenty():
    error = problems_of("nmae: x\nsteps:\n- {id: a, run: x, if: '}'}\n- {id: b, rnu: x}\n")
    assert [one["line"] for one in error.details["problems"]] == [1, 3, 4]
    assert error.message.endswith("(and 2 more)")
    assert error.details["path"] == "ship.yaml"
    assert error.details["problems"][0] == {
        "line": 1,
        "message": "'nmae' is no key of the file; did you mean name?",
        "allowed": list(TOP),
    }
    many = problems_of("steps:\n" + "".join(f"- {{id: s{n}, rnu: x}}\n" for n in range(100)))
    assert len(many.details["problems"]) == 20
    assert many.message.endswith("(and 99 more)")


def test_a_step_that_is_wrong_does_not_make_those_wrong_that_name_it():
    error = problems_of(
        "steps:\n- {id: a, rnu: x}\n- {id: b, run: 'x {{ steps.a.json }}'}\n"
        "- {id: c, agent: x, prompt: y, session: a}\n"
    )
    assert [one["line"] for one in error.details["problems"]] == [2]


def test_there_is_an_end_to_steps_and_to_blocks_in_blocks():
    at_most = "steps:\n" + "".join(f"- {{id: s{n}, run: x}}\n" for n in range(500))
    assert len(parsed(at_most).steps) == 500
    error = problems_of(at_most + "- {id: a, run: x}\n- {id: b, run: x}\n")
    assert "there are too many steps; allowed: at most 500" in error.message
    assert error.details["line"] == 502

    def nested(depth):
        inner = "{id: x, run: x}"
        for n in range(depth):
            inner = f"{{id: b{n}, parallel: true, steps: [{inner}]}}"
        return f"steps: [{inner}]"

    assert parsed(nested(4)).steps
    assert "in too many others; allowed: at most 4 levels" in problems_of(nested(5)).message


def test_words_without_quotes_are_what_people_mean():
    text = (
        "[on, off, yes, no, true, False, null, ~, 0755, 0x1F, 0o17, 1:30, 2024-01-01, 12e4567, 1e3,"
        " 10, -3, 1.5, .5, 1.2.3, .inf, .nan, =, 1_000, 12345678901234567890, '5', \"true\"]"
    )
    assert plain(read(text.encode(), Problems())) == [
        *("on", "off", "yes", "no", True, False, None, None, "0755", "0x1F", "0o17", "1:30"),
        *("2024-01-01", "12e4567", "1e3", 10, -3, 1.5, 0.5, "1.2.3", ".inf", ".nan", "=", "1_000"),
        *("12345678901234567890", "5", "true"),
    ]


@pytest.mark.parametrize("change", ["", "\ufeff", "# x\n", "%YAML 1.2\n---\n"])
def test_what_stands_around_a_file_does_not_matter(change):
    assert parsed(change + EXAMPLE).steps[0].id == "implement"
    assert parsed(EXAMPLE.replace("\n", "\r\n")).steps[0].id == "implement"


texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    texts,
    st.sampled_from(["on", "no", "0755", "1:30", "null", "~", "2024-01-01", "- a", "a: b", "# x"]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@given(trees)
def test_json_is_yaml_and_comes_out_as_it_went_in(tree):
    problems = Problems()
    node = read(json.dumps(tree).encode(), problems)
    assert not problems
    assert plain(node) == tree


LINES = EVERYTHING.splitlines(keepends=True)
ODD = [
    "  ",
    "- ",
    ": ",
    "{{ ",
    " }}",
    "&a ",
    "*a",
    "!!x ",
    "'",
    '"',
    "[",
    "}",
    "|\n",
    "? ",
    "\t",
    "\x00",
]
MORE = [
    "steps",
    "id",
    "run: x\n",
    "true",
    "5",
    "\n",
    "#",
    "%",
    "---\n",
    "<<",
    "~",
    "\u2028",
    "for-each: ",
]


@given(st.data())
def test_a_file_that_was_meddled_with_is_read_or_broken_and_nothing_else(data):
    lines = data.draw(st.lists(st.sampled_from(LINES), max_size=12))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(lines)))
        lines.insert(at, "".join(data.draw(st.lists(st.sampled_from(ODD + MORE), max_size=4))))
    try:
        made = parsed("".join(lines))
    except BrokenWorkflow:
        return
    assert made.steps
    assert msgspec.json.decode(msgspec.json.encode(made), type=Definition) == made


@given(st.binary(max_size=40))
def test_any_bytes_are_broken(data):
    with pytest.raises(BrokenWorkflow):
        parsed(data)
