"""Conditions and templates: what they give, what they refuse, and that none runs long."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.workflow.expressions import Expressions
from domains.workflow.filters import FILTERS, MAX_RESULT
from domains.workflow.templates import BadExpression

EXPRESSIONS = Expressions()

NAMES = {
    "args": {"spec": "a new login", "n": 3, "dry": False, "none": None, "a-b": 1},
    "steps": {
        "test": {"exitCode": 1, "stdout": "one\ntwo\n\n", "json": None},
        "list": {"exitCode": 0, "json": ["b.py", "a.py", "b.py"], "items": {"length": 7}},
    },
    "item": {"path": "src/x.py", "size": 2.5},
    "index": 0,
    "run": {"id": "run_1", "attempt": 1},
    "env": {},
    "big": "x" * 1_000_000,
}


def refused(text, names=NAMES):
    with pytest.raises(BadExpression) as caught:
        EXPRESSIONS.render(text, names)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("{{ args.n }}", 3),
        ("  {{ args.n }}\n", 3),
        ("{{ steps.list.json }}", ["b.py", "a.py", "b.py"]),
        ("{{ args.dry }}", False),
        ("{{ args.none }}", None),
        ("{{ null }}{{ none }}", ""),
        ("Implement {{ args.spec }}!", "Implement a new login!"),
        ("{{ args.n }}{{ args.dry }}{{ item.size }}", "3false2.5"),
        ("is {{ steps.list.json }}", 'is ["b.py","a.py","b.py"]'),
        ("{{ args['a-b'] + 1 - 0.5 }}", 1.5),
        ("{{ -args.n }}", -3),
        ("{{ steps.list.json[0] ~ '/' ~ steps.list.json[-1] }}", "b.py/b.py"),
        ("{{ steps.list.json.1 }}", "a.py"),
        ("{{ args.spec[2:5] }}", "new"),
        ("{{ steps.list.items.length }}", 7),
        ("{{ [1, 'two', {'three': args.n}] }}", [1, "two", {"three": 3}]),
        ("{{ 'yes' if args.dry else 'no' }}", "no"),
        ("{{ 'yes' if args.dry }}", None),
        ("{{ 1 < args.n <= 3 and not args.dry }}", True),
        ("{{ 'a.py' in steps.list.json and 'new' in args.spec }}", True),
        ("{{ 'zz' not in args }}", True),
        ("{{ steps.test.stdout | lines }}", ["one", "two"]),
        ("{{ steps.test.stdout | lines | join(', ') | upper }}", "ONE, TWO"),
        ("{{ steps.list.json | unique | sort }}", ["a.py", "b.py"]),
        ("{{ [2, 10, 1] | sort(reverse=true) | first }}", 10),
        ("{{ [] | last }}", None),
        ("{{ '5' | int + 1 }}", 6),
        ("{{ 'x' | int(0) }}", 0),
        ("{{ '2.50' | float }}", 2.5),
        ("{{ args.n | string }}", "3"),
        ("{{ '[1, {}]' | fromjson }}", [1, {}]),
        ("{{ item | tojson }}", '{"path":"src/x.py","size":2.5}'),
        ("{{ item.path | basename }}", "x.py"),
        ("{{ 'abcdef' | truncate(4) }}", "abc…"),
        ("{{ '  x ' | trim | length }}", 1),
        ("{{ 'a b' | quote }}", "'a b'"),
        ("{{ args.branch | default('main') }}", "main"),
        ("{{ args.none | default('main') }}", "main"),
        ("{{ '' | default('main', true) }}", "main"),
        ("{{ steps.gone.stdout | default('') }}", ""),
        ("{{ args.branch is defined }}", False),
        ("{{ args.none is none and args.n is number and args.spec is string }}", True),
        ("{{ steps.test.stdout is not list }}", True),
        ("a {# not this #} b", "a  b"),
        ("${#name} {#", "${#name} {#"),
        ("x  {{- args.n -}}  y", "x3y"),
        ("{% raw %}{{ args.n }}{% endraw %} {%s}", "{{ args.n }} {%s}"),
        ("{{ {'a': {'b': '}}'}}['a']['b'] }}", "}}"),
        ({"a": ["{{ args.n }}", {"{{ b }}": 1}], "c": None}, {"a": [3, {"{{ b }}": 1}], "c": None}),
    ],
)
def test_a_template_gives_its_value(text, value):
    assert EXPRESSIONS.render(text, NAMES) == value
    assert type(EXPRESSIONS.render(text, NAMES)) is type(value)


def test_text_is_always_text():
    assert EXPRESSIONS.text("{{ args.n }}", NAMES) == "3"
    assert EXPRESSIONS.text("{{ args.none }}", NAMES) == ""
    assert EXPRESSIONS.text("{{ [true] }}", NAMES) == "[true]"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("steps.test.exitCode != 0", True),
        ("{{ steps.test.exitCode == 0 }}", False),
        ("true", True),
        ("args.none", False),
        ("steps.list.json", True),
        ("args.dry or args.n > 2", True),
        (" not {'a': 1}\n", False),
    ],
)
def test_a_condition_stands_in_braces_or_without(text, holds):
    EXPRESSIONS.check_condition(text)
    assert EXPRESSIONS.condition(text, NAMES) is holds


@pytest.mark.parametrize(
    "text", ["", "{{ a }} and {{ b }}", "x {{ a }}", "a }} b", "{% if a %}", "a b"]
)
def test_what_is_not_one_expression_is_no_condition(text):
    with pytest.raises(BadExpression):
        EXPRESSIONS.check_condition(text)


INJECTIONS = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ [].__class__.__base__.__subclasses__()[0]('id', shell=True) }}",
    "{{ config }}",
    "{{ config.items() }}",
    "{{ self }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ lipsum(n=100000) }}",
    "{{ request.application.__globals__ }}",
    "{{ url_for.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ dict(a=1) }}",
    "{{ range(10**9)|list }}",
    "{{ range(3) }}",
    "{{ (1).__class__ }}",
    "{{ args.__class__ }}",
    "{{ args['__class__'] }}",
    "{{ args._private }}",
    "{{ args.keys() }}",
    "{{ args.items }}",
    "{{ args.spec.upper() }}",
    "{{ args.spec.format(args) }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '%s'|format(1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '%s' % 1 }}",
    "{{ [1]|map('attr', '__class__')|list }}",
    "{{ [1]|map(attribute='__class__')|list }}",
    "{{ [1]|select|list }}",
    "{{ args|attr('spec') }}",
    "{{ args|dictsort }}",
    "{{ args|xmlattr }}",
    "{{ 'x'|wordwrap(1) }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ 'x'|indent(1000000000) }}",
    "{{ 'x'|replace('', 'y') }}",
    "{{ args|tojson(indent=1000000000) }}",
    "{{ args|pprint }}",
    "{{ ['x']|batch(1000000000) }}",
    "{{ 'a'|lower(*[1]) }}",
    "{{ 'a'|lower(**{'b': 1}) }}",
    "{{ 'a'|join(1, 2, 3) }}",
    "{{ 'a'*10**9 }}",
    "{{ 'a'*9 }}",
    "{{ 9**9**9**9 }}",
    "{{ 7//1 }}",
    "{{ 7/1 }}",
    "{{ 7%2 }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{%- set x = 1 -%}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% print(1) %}",
    "{{ _ }}",
    "{{ __builtins__ }}",
    "{{ [1,2][0:1, 1] }}",
    "{{ caller() }}",
    "{{ loop }}",
    "{{ true() }}",
    "{{ 'x' is callable }}",
    "{{ 'x' is filter }}",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_of_python_can_be_reached(text):
    assert refused(text)


BOMBS = {
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "lists": "{{ " + "[" * 60 + "]" * 60 + " }}",
    "nots": "{{ " + "not " * 1900 + "1 }}",
    "signs": "{{ " + "-" * 8000 + "1 }}",
    "sums": "{{ 1" + "+1" * 4000 + " }}",
    "ifs": "{{ " + "1 if 1 else " * 600 + "1 }}",
    "dots": "{{ args" + ".a" * 4000 + " }}",
    "filters": "{{ 'a'" + "|lower" * 1300 + " }}",
    "ors": "{{ 1" + " or 1" * 1500 + " }}",
    "a long number": "{{ " + "9" * 8000 + " }}",
    "a long hexadecimal number": "{{ 0x" + "f" * 8000 + " }}",
    "a large number": "{{ 1e999 }}",
    "a large sum": "{{ 9223372036854775807 + 9223372036854775807 }}",
    "a long expression": "{{ " + "a" * 9000 + " }}",
    "many expressions": "{{ 1 }}" * 501,
    "a long text": "{{ 1 }}" + "x" * 65_536,
    "a doubled text": "{{ big ~ big }}",
    "an added text": "{{ big + big }}",
    "a text put together": "{{ big }}{{ big }}",
    "a joined text": "{{ [big, big]|join }}",
    "a text in JSON": "{{ [big, big]|tojson }}",
    "a long separator": "{{ [1,1,1]|join(big) }}",
    "much work": "{{ " + " ~ ".join(["big|lower|length"] * 10) + " }}",
    "many large texts": "{{ [" + ", ".join(["big ~ '!'"] * 30) + "] }}",
    "deep JSON": "{{ deep|fromjson }}",
    "quotes": "{{ '" + "\\'" * 30_000,
    "half a character": "{{ '\\ud800' }}",
    "no end": "{{ args.n",
    "no end of raw": "{% raw %}" * 7000,
    "openings": "{{" * 30_000,
    "nothing": "{{ }}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_is_too_much_is_refused(bomb):
    assert refused(BOMBS[bomb], NAMES | {"deep": "[" * 100_000})


def test_a_key_that_is_not_there_is_compared_with_few_others(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "domains.workflow.evaluation.meant", lambda _, known: compared.extend(known) or ""
    )
    names = {"found": {f"key{n:05}": n for n in range(25_000)}}
    assert EXPRESSIONS.render("{{ found.other | default('') }}" * 3, names) == ""
    assert len(compared) <= 600


def test_words_of_a_command_are_paid_for_before_they_are_made():
    names = {"found": {"many": [1] * 120_000, "long": "'" * 200_000}}
    for text in ("echo" + " {{ found.many }}" * 500, "echo" + " {{ found.long }}" * 500):
        with pytest.raises(BadExpression, match="takes too long"):
            EXPRESSIONS.shell(text, names)


def test_a_number_that_is_no_float_is_refused():
    assert "too large" in refused("{{ n | float }}", {"n": 10**400})


@pytest.mark.parametrize("text", ["{%a" * 20_000, "{#a" * 20_000, "}}" * 30_000])
def test_signs_that_are_none_are_text(text):
    assert EXPRESSIONS.render(text, NAMES) == text


def test_values_that_are_nested_deeper_than_python_goes_are_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    names = {"deep": deep, "other": [deep]}
    for text in ("{{ deep == other }}", "{{ deep|tojson }}", "x{{ deep }}"):
        assert "nested too deeply" in refused(text, names) or "JSON" in refused(text, names)
    with pytest.raises(BadExpression, match="nested too deeply"):
        EXPRESSIONS.render(deep, {})
    while deep:
        deep = deep.pop()  # so that it goes without recursion


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ steps.tset.stdout }}", "steps.tset: there is: list, test; did you mean test?"),
        ("{{ arg.spec }}", "there is: args, big, env, index, item, run, steps; did you mean args?"),
        ("{{ env.X }}", "env.X: there is nothing yet"),
        ("{{ steps.list.json[3] }}", "steps.list.json[3]: there are only 3"),
        ("{{ args.spec.length }}", "args.spec is a text, it has no keys"),
        ("{{ args.n + 'x' }}", "a number + a text is nothing; ~ puts texts together"),
        ("{{ args.n > 'x' }}", "a number and a text are neither less nor more"),
        ("{{ 1 in 'x' }}", "a number cannot be in a text"),
        ("{{ args.n | lines }}", "args.n | lines: this is a number; it takes a text"),
        ("{{ 'x' | fromjson }}", "the text is no JSON"),
        ("{{ 'NaN' | fromjson }}", "the text is no JSON"),
        ("{{ 'x' | int }}", "'x' is not a whole number"),
        ("{{ [1, 'a'] | sort }}", "only texts among themselves"),
        (
            "{{ 'x' | lenght }}",
            "there is no filter lenght; did you mean length?; allowed: basename",
        ),
        ("{{ 'x' is strin }}", "there is no test strin; did you mean string?"),
        ("{{ 'x' | truncate(1, 2, 3) }}", "the filter truncate takes length, end"),
        ("{{ 'x' | truncate(size=1) }}", "the filter truncate takes length, end"),
        ("{{ 'x' | safe | upper }}", "safe is the last filter"),
        ("{{ args.spec.upper() }}", "calls are not allowed"),
        ("{{ 2 * 2 }}", "* is not allowed"),
        ("{{ a b }}", "'b' does not belong to the expression"),
        ("{{.Id}}", "unexpected '.'"),
        ("{{ 'a }}", "a quote is not closed; text with {{ in it stands between {% raw %}"),
        ("{{ (a }}", "a } closes nothing"),
        ("{% if x %}", "is a statement; allowed: {{ expressions }}"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_there_is(text, says):
    assert says in refused(text)


def test_an_error_knows_the_line_of_the_text():
    with pytest.raises(BadExpression) as caught:
        EXPRESSIONS.check("one\ntwo {{ args.n }}\nthree {{ f() }}")
    assert caught.value.line == 2


def test_what_a_text_names_is_found():
    text = (
        "{{ steps.a.x[args.n].y ~ (item['p'] | default(env.Q)) }}\n{{ steps[args.id] }} {{ null }}"
    )
    assert sorted(EXPRESSIONS.references(text)) == [
        (("args", "id"), 1),
        (("args", "n"), 0),
        (("env", "Q"), 0),
        (("item", "p"), 0),
        (("steps",), 1),
        (("steps", "a", "x"), 0),
    ]
    assert EXPRESSIONS.references("steps.a.exitCode != 0", whole=True) == [
        (("steps", "a", "exitCode"), 0)
    ]


def test_a_for_each_goes_through_a_list_and_no_more_than_it_may():
    names = {"list": list(range(10_001)), "text": "a\nb"}
    assert EXPRESSIONS.items("{{ list[:3] }}", names) == [0, 1, 2]
    assert EXPRESSIONS.items("text | lines", names) == ["a", "b"]
    assert EXPRESSIONS.items(["{{ text }}", 1], names) == ["a\nb", 1]
    with pytest.raises(BadExpression, match=r"a text; \| lines or \| fromjson makes a list"):
        EXPRESSIONS.items("text", names)
    with pytest.raises(BadExpression, match="10,001 items; allowed: at most 1,000"):
        EXPRESSIONS.items("list", names)
    with pytest.raises(BadExpression, match="10,001 items; allowed: at most 10,000"):
        EXPRESSIONS.items("list", names, most=1_000_000)
    assert len(EXPRESSIONS.items("list[:10000]", names, most=10_000)) == 10_000


def test_nothing_that_was_read_is_kept_without_bound():
    import jinja2

    from domains.workflow import expressions

    for number in range(1000):
        EXPRESSIONS.render(f"{{{{ {number} }}}}", {})
    assert expressions._kept.cache_info().currsize <= expressions.KEPT
    assert len(expressions._environment().cache) == 0
    assert len(jinja2.lexer._lexer_cache) <= 50


def test_every_filter_can_be_used_and_bears_any_value():
    for name in FILTERS:
        EXPRESSIONS.check(f"{{{{ x | {name} }}}}")
        for value in (None, True, 1, 1.5, "a", ["a"], {"a": 1}, [[]], [{}, None]):
            with contextlib.suppress(BadExpression):
                EXPRESSIONS.render(f"{{{{ x | {name} }}}}", {"x": value})


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-99, 99), st.floats(-9, 9), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(values)
def test_a_value_comes_out_as_it_went_in(value):
    assert EXPRESSIONS.render("{{ x }}", {"x": value}) == value
    assert EXPRESSIONS.render("{{ x | tojson | fromjson }}", {"x": value}) == value
    assert json.loads(EXPRESSIONS.text("{{ [x] }}", {"x": value})) == [value]


WORDS = [
    "{{",
    "}}",
    " x ",
    "'",
    '"',
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    "|",
    "lower",
    "default",
    "-",
]
MORE = [
    "+",
    "~",
    "1",
    "0.5",
    "==",
    "<",
    "in",
    "is",
    "not",
    "and",
    "if",
    "else",
    "none",
    ":",
    ",",
    "%",
]


@given(st.lists(st.sampled_from(WORDS + MORE), max_size=14).map("".join), values)
def test_any_text_is_rendered_or_refused(text, value):
    for source in (text, f"{{{{ {text} }}}}"):
        try:
            made = EXPRESSIONS.render(source, {"x": value})
        except BadExpression:
            continue
        assert len(msgspec.json.encode(made)) <= MAX_RESULT
