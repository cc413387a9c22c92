"""Patterns agree with Python's own, but take no time."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.workflow.patterns import MAX_TEXT, BadPattern, Pattern

PIECES = ["a", "b", "ab", ".", "[a-b]", "[^a]", r"\w", r"\d", r"\.", "^", "$", r"\b", "(?:a|b)"]
QUANTIFIERS = ["", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "{0,2}", "*?"]

atoms = st.sampled_from(PIECES)
pieces = st.tuples(atoms, st.sampled_from(QUANTIFIERS)).map(
    lambda both: both[0] if both[0] in {"^", "$", r"\b"} else "".join(both)
)
patterns = st.recursive(
    st.lists(pieces, min_size=1, max_size=4).map("".join),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(QUANTIFIERS)).map(lambda both: f"({both[0]}){both[1]}"),
        st.tuples(inner, inner).map("".join),
    ),
    max_leaves=5,
)


@given(patterns, st.text(alphabet="ab0._\n", max_size=8))
def test_a_pattern_fits_what_pythons_own_fits(source, text):
    try:
        pattern = Pattern(source)
    except BadPattern:
        return  # two quantifiers in a row, or too much written out
    theirs = re.compile(source.replace("$", r"\Z"), re.ASCII)
    assert pattern.search(text) == bool(theirs.search(text))


@pytest.mark.parametrize(
    ("source", "fits", "not_this"),
    [
        (r"^[a-z]+(-[a-z]+)*$", ["a", "a-b", "ab-cd-ef"], ["", "a-", "-a", "A", "a\n"]),
        (r"^v?\d+\.\d+\.\d+$", ["1.2.3", "v10.0.1"], ["1.2", "v1.2.3x", "\u0661.\u0662.\u0663"]),
        (r"^[^\]\s/]{2,4}$", ["ab", "a.b", "\u00e4\u00e4"], ["a", "abcde", "a b", "a/b", "a]"]),
        ("a|b|", ["", "x"], []),
        ("^(a|b|c)$", ["a", "b", "c"], ["d", "ab"]),
        (r"\bfoo\b", ["a foo b", "foo"], ["food", "_foo"]),
        (r"^\x41\u0042[\n]$", ["AB\n"], ["AB"]),
        ("^(){3}a{0}b$", ["b"], ["ab"]),
        ("a{", ["a{"], ["a"]),
    ],
)
def test_usual_patterns_fit_what_they_should(source, fits, not_this):
    pattern = Pattern(source)
    assert [text for text in fits if not pattern.search(text)] == []
    assert [text for text in not_this if pattern.search(text)] == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (r"(a)\1", "not known"),
        ("(?=a)", "looks around"),
        ("(?P<x>a)", "looks around"),
        (r"\p{L}", "not known"),
        ("(", "not closed"),
        ("a)", "closes nothing"),
        ("*a", "repeats nothing"),
        ("a**", "repeats nothing"),
        ("[a", "not known"),
        ("[b-a]", "bad character range"),
        ("a{3,1}", "wrong way"),
        ("a{9999}", "repeats too much"),
        ("((a{20}){20}){20}", "repeats too much"),
        ("(a{200}|b{200}){2}", "too"),
        ("(" * 30 + ")" * 30, "nested too deeply"),
        ("a" * 501, "501 characters"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(source, reason):
    with pytest.raises(BadPattern, match=reason):
        Pattern(source)


@pytest.mark.parametrize("source", ["(a+)+b", "(a|a)*b", "(a*)*b", "a*a*a*a*a*a*b", "(.*.*)*x"])
def test_a_bomb_comes_to_an_end(source):
    assert not Pattern(f"^{source}$").search("a" * MAX_TEXT)


def test_a_text_over_the_limit_is_not_matched():
    with pytest.raises(ValueError, match="4,096"):
        Pattern("a").search("a" * 4097)


@given(st.text(max_size=30))
def test_any_pattern_is_read_or_refused(source):
    with contextlib.suppress(BadPattern):
        Pattern(source).search("abc")
