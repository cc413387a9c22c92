"""Values in shell text: whatever they are, the real shells read them as words."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domains.workflow import quoting
from domains.workflow.expressions import Expressions
from domains.workflow.templates import BadExpression

EXPRESSIONS = Expressions()

SHELLS = [shell for name in ("sh", "bash") if (shell := shutil.which(name))]

HOSTILE = [
    "$(: >canary)",
    "`: >canary`",
    "'; : >canary; '",
    '"; : >canary; "',
    "\n: >canary\n",
    "'\n: >canary\n#",
    '"\n: >canary\n#',
    "\nE\n: >canary\n",
    "a[$(: >canary)]",
    "\\'; : >canary; \\'",
    "; : >canary #",
    "| : >canary",
    "& : >canary &",
    ") ; : >canary; (",
    "))\n: >canary\n((",
    "}; : >canary; {",
    "\\",
    "'",
    '"',
    "#",
]


def run(command, folder, shell):
    return subprocess.run(
        [shell, "-c", command],
        cwd=folder,
        env={"PATH": "/nonexistent", "x": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    ).stdout.decode()


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ruff check {{ v }}", "ruff check 'a b'"),
        ("cp {{ v }}.txt x/{{ v }}", "cp 'a b'.txt x/'a b'"),
        ("ls {{ items }} | head", "ls a.py 'b c.py' | head"),
        ("ls {{ none }}", "ls ''"),
        ("ls {{ empty }}", "ls "),
        ("echo {{ number }} {{ yes }}", "echo '5' true"),
        ("echo {{ mapping }}", """echo '{"a":1}'"""),
        ("echo {{ v | quote }}", "echo 'a b'"),
        ('echo {{ v | safe }} "{{ v | safe }}"', 'echo a b "a b"'),
        ("X={{ v }} echo \"$X\" '{{' ${#X}", None),
        ('echo "$(ls {{ v }})" $((1 + 2)) ${X}', "echo \"$(ls 'a b')\" $((1 + 2)) ${X}"),
        ("# don't\necho {{ v }}", "# don't\necho 'a b'"),
        ('f() { ls "$1"; }\nf {{ v }}', "f() { ls \"$1\"; }\nf 'a b'"),
        ("case {{ v }} in a) b ;; esac", "case 'a b' in a) b ;; esac"),
        ("echo '${{' # no template", None),
        ("awk '{print $1}' {{ v }}", "awk '{print $1}' 'a b'"),
        (
            "docker inspect -f '{% raw %}{{.Id}}{% endraw %}' {{ v }}",
            "docker inspect -f '{{.Id}}' 'a b'",
        ),
        ("env {{ assigned }} {{ word }}", "env 'A=1' 'then'"),
        ("a \\\n  {{ v }}", "a \\\n  'a b'"),
        ("printf '\\033[1m%s\\n' {{ v }}", "printf '\\033[1m%s\\n' 'a b'"),
        ('echo "a[" {{ v }}', "echo \"a[\" 'a b'"),
        ("[ -e {{ v }} ] && ls x[ab]{{ v }}", "[ -e 'a b' ] && ls x[ab]'a b'"),
        ("a=({{ v }} $(ls {{ v }}))", "a=('a b' $(ls 'a b'))"),
    ],
)
def test_values_become_words(text, command):
    names = {
        "v": "a b",
        "items": ["a.py", "b c.py"],
        "none": None,
        "empty": [],
        "number": 5,
        "yes": True,
        "mapping": {"a": 1},
        "assigned": "A=1",
        "word": "then",
    }
    if command is None:
        with pytest.raises(BadExpression):
            EXPRESSIONS.shell(text, names)
    else:
        EXPRESSIONS.check_shell(text)
        assert EXPRESSIONS.shell(text, names) == command


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('echo "{{ v }}"', "in quotes; a value is quoted by itself"),
        ("echo '{{ v }}'", "in quotes"),
        ("echo \"$(ls '{{ v }}')\"", "in quotes"),
        ("echo 'it {{ v }}", "in a quote that is not closed"),
        ('{{ v }} "', "in a quote that is not closed"),
        ("cat <<E\n{{ v }}\nE", "in a here-document"),
        ("cat <<'E'\nit's\nE\necho {{ v }}", "in a here-document"),
        ("echo `ls {{ v }}`", "in backquotes; use $(...)"),
        ("echo \\{{ v }}", "behind a backslash"),
        ("echo ${{ v }}", "behind a $; write {{ ... }} without it"),
        ("echo $'a' {{ v }}", "in $'"),
        ("echo a # {{ v }}", "in a comment"),
        ("echo $(( {{ v }} + 1 ))", "in arithmetic"),
        ("(( {{ v }} ))", "in arithmetic"),
        ("echo $[ {{ v }} ]", "in $["),
        ("a[{{ v }}]=1", "in a subscript"),
        ("a[ {{ v }} ]=1", "in a subscript"),
        ('declare "a["{{ v }}"]=1"', "in a subscript"),
        ('declare "a"[{{ v }}]=1', "in a subscript"),
        ("declare 'a['\"$(echo ])x\"{{ v }}]=1", "in a subscript"),
        ("declare {{ v }}[{{ v }}]=1", "in a subscript"),
        ("declare {{ v | safe }}'[1'{{ v }}", "in a subscript"),
        ("declare ${x}\\[{{ v }}]=1", "in a subscript"),
        ("a=([{{ v }}]=1)", "in a subscript"),
        ("[[ {{ v }} -eq 1 ]]", "in [[ ]]; use [ ]"),
        ("eval ls {{ v }}", "in what eval or let read a second time"),
        ("let {{ v }}", "in what eval or let read a second time"),
        ("${x:-{{ v }}}", "in a text with a ${...}"),
        ('echo ${x:-"\'"} {{ v }}', "in a text with a ${...}"),
        ('echo "$(case a in a) ls {{ v }};; esac)"', "in a text with case"),
        ("echo $(ls # don't\n) {{ v }}", "in a text with a comment"),
        ("ec\\\nho {{ v }}", "in a text with a line that goes on"),
        ("x={{ items }}", "is a list, and each item becomes a word: put spaces around it"),
        ("ls {{ v }}{{ items }}", "is a list"),
        ("ls {{ items }}#", "is a list"),
        ("ls {{ nul }}", "NUL"),
        ("ls {{ nul | safe }}", "NUL"),
        ("ls {{ half }}", "half a character"),
        ("ls {{ large }}", "131,071"),
        ("ls \0 {{ v }}", "control characters"),
    ],
)
def test_a_template_where_no_word_can_be_is_refused(text, place):
    names = {"v": "a", "items": ["a", "b"], "nul": "\0", "half": "\ud800", "large": "x" * 140_000}
    with pytest.raises(BadExpression) as caught:
        EXPRESSIONS.shell(text, names)
    assert place in caught.value.message


def test_an_error_of_shell_text_knows_its_line():
    with pytest.raises(BadExpression) as caught:
        EXPRESSIONS.check_shell('one\ntwo\necho "{{ v }}"')
    assert caught.value.line == 2


def test_text_without_templates_is_left_alone():
    text = "cat <<'E' | `x` $'y' \"unclosed\nE\n${#a} $(( 1 ))"
    assert EXPRESSIONS.shell(text, {}) == text


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=5))
@settings(max_examples=50)
def test_the_shell_gets_the_words_that_were_given(words):
    command = EXPRESSIONS.shell(
        "for w in {{ words }}; do printf '%s\\n--\\n' \"$w\"; done", {"words": words}
    )
    assert run(command, "/", SHELLS[0]) == "".join(f"{word}\n--\n" for word in words)


blanks = st.sampled_from([" ", "  ", "\t", " \\\n "])
WORDS = [
    "{{ v }}",
    "a",
    "'b c'",
    "'\"'",
    '"d e"',
    '"\'"',
    "\\'",
    '\\"',
    "$x",
    "${x}",
    '"${x}"',
    "${#x}",
]
CURIOS = [
    "$#",
    "$((x + 1))",
    "$(echo",
    ")",
    '"',
    "'",
    "`",
    "#",
    "\\",
    "$",
    "<<E\n",
    "\nE\n",
    "${x:-'",
]
BRACKETS = [
    "declare",
    '"a["',
    "'a'[",
    "a=(",
    "=",
    "let",
    "}",
    "# it's\n",
    "a[",
    "]",
    "[[",
    "]]",
    "((",
    "))",
    "*",
    "~",
    "{{ l }}",
]
word = st.one_of(
    st.sampled_from(["{{ v }}"]),
    st.sampled_from(WORDS),
    st.sampled_from([*WORDS, *CURIOS, *BRACKETS]),
)
simple = st.lists(st.tuples(blanks, word).map("".join), max_size=4).map(
    lambda words: "echo" + "".join(words)
)
glued = st.lists(word, max_size=5).map(lambda words: "echo " + "".join(words))
command = st.recursive(
    st.one_of(simple, glued),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["\n", "; ", " && ", " | "]), inner).map("".join),
        inner.map(lambda text: f'echo "a $({text}) b"'),
        inner.map(lambda text: f"echo $({text})"),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"if :; then {text}; fi"),
        inner.map(lambda text: f"case $x in 1) {text};; esac"),
        inner.map(lambda text: f"for f in {{{{ v }}}}; do {text}; done"),
        inner.map(lambda text: f"cat <<E\n{text}\nE\n"),
        inner.map(lambda text: f"{text} # it's\n"),
    ),
    max_leaves=3,
)


@given(
    text=command,
    value=st.sampled_from(HOSTILE),
    items=st.lists(st.sampled_from(HOSTILE), max_size=2),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_value_is_ever_run(tmp_path, text, value, items):
    try:
        made = EXPRESSIONS.shell(text, {"v": value, "l": items})
    except BadExpression:
        return
    if "{{" in text:
        for shell in SHELLS:
            run(made, tmp_path, shell)
            assert not (tmp_path / "canary").exists()


def test_a_long_text_is_looked_through_once(monkeypatch):
    looked = []

    class Esac:
        def search(self, text):
            looked.append(text)

    monkeypatch.setattr(quoting, "_ESAC", Esac())
    quoting.check(quoting.VALUE + ' "$(x)"' * 1000)
    assert len(looked) == 1


def test_what_is_open_is_not_looked_through_at_each_sign():
    class Open(list):
        def __contains__(self, _):
            raise AssertionError("they may be many")

    reader = quoting._Reader(f'a=({quoting.VALUE} "$(x "$(y {quoting.VALUE})")" $(z))')
    reader._open = Open()
    reader.read()
    assert (reader._open, reader._quotes, reader._arrays) == ([], 0, 0)
