"""The door to the terminal: foreign text that goes through it does nothing there."""

from __future__ import annotations

import json
import os
import pty

import pytest
from support import standing_in_for

from daemon.cli import printing
from daemon.cli.tasks import table
from daemon.cli.view import View
from daemon.client import Message

HOSTILE = "a\x1b]52;c;YQ==\x07b\x9b2Jc\u202ed\ud800e\x7f\x00f\rg"
HARMLESS = "a\\x1b]52;c;YQ==\\x07b\\x9b2Jc\\u202ed\\ud800e\\x7f\\x00f\\rg"


def test_what_would_do_something_is_shown_as_its_escape():
    assert printing.harmless(HOSTILE) == HARMLESS
    assert printing.harmless("tab\tline\r\nnext \xe9 \u20ac \U0001f600") == (
        "tab\tline\nnext \xe9 \u20ac \U0001f600"
    )
    assert printing.harmless_cell("one\ntwo\t") == "one\\ntwo\\t"


@pytest.mark.parametrize("stream", ["out", "err"])
def test_standard_output_and_error_get_nothing_else(capfd, stream):
    (printing.say if stream == "out" else printing.complain)(f"{HOSTILE}\n")
    assert getattr(capfd.readouterr(), stream) == f"{HARMLESS}\n"


def test_json_stays_the_same_json(capfd):
    value = {"title": HOSTILE}
    printing.say_json(json.dumps(value, ensure_ascii=False) + "\n")
    printed = capfd.readouterr().out
    assert json.loads(printed) == value
    assert printing.harmless(printed) == printed


def test_a_programs_output_is_passed_on_as_it_is_to_another_program(capfdbinary):
    printing.pass_on("\x1b[31mred\r\n\x07")
    assert capfdbinary.readouterr().out == b"\x1b[31mred\r\n\x07"


def test_a_person_sees_a_programs_output_without_its_controls(capfd, monkeypatch):
    other, own = pty.openpty()
    with capfd.disabled(), standing_in_for(1, own), open(1, "w", closefd=False) as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        printing.pass_on("\x1b[31mred\x1b[m 50%\r100%\x1b[2J\n")
        shown = os.read(other, 4096)
    os.close(own)
    os.close(other)
    assert shown == b"red 50%\r\n100%\\x1b[2J\r\n"


def test_a_cell_of_a_table_draws_no_second_row():
    assert table([("ID", "NAME"), ("1", "x\n2  forged\x1b[2J")]) == (
        "ID  NAME\n1   x\\n2  forged\\x1b[2J\n"
    )


def test_the_words_of_an_agent_draw_no_question(capfd):
    view = View(as_json=False)
    words = {"kind": "text", "replyId": "1", "text": "hi\x1b[2J\x1b[H? allow\n"}
    view.show(Message("session:1", "session.message_delta", words, 1, 0.0, ""))
    assert capfd.readouterr().out == "hi\\x1b[2J\\x1b[H? allow\n"
