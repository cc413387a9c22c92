"""Events over the limit are cut until they fit, and say so."""

from __future__ import annotations

import json

from daemon.core import frames
from daemon.core.shortening import shortened


def test_long_texts_and_lists_are_cut_until_it_fits():
    data = frames.encode({"text": "x" * 100_000, "list": ["y"] * 100_000, "n": 1})
    cut = json.loads(shortened(data, 10_000, lambda short: short, href="/whole"))
    assert cut["text"] == "x" * len(cut["text"])
    assert (cut["n"], cut["truncated"], cut["href"]) == (1, True, "/whole")


def test_what_cannot_be_cut_is_only_marked():
    data = frames.encode({f"key {n}": n for n in range(10_000)})
    assert json.loads(shortened(data, 10_000, lambda short: short, href=None)) == {
        "truncated": True
    }
    assert json.loads(shortened(b"[1]", 10_000, lambda short: short, href=None)) == {
        "truncated": True
    }
