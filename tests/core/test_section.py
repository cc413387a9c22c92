"""Sections: what every setting of the daemon has."""

from __future__ import annotations

import inspect
import typing

import msgspec
import pytest

from daemon.core.section import Bytes, Seconds, Section, described
from daemon.settings import Settings


class Own(Section):
    """A test's section."""

    size: typing.Annotated[Bytes, described("Size of it")] = 1
    wait: typing.Annotated[Seconds, described("Seconds of it", le=5)] = 0.5


def test_defaults_need_nothing_and_unknown_keys_are_refused():
    assert (Own().size, Own().wait) == (1, 0.5)
    with pytest.raises(msgspec.ValidationError, match="unknown field `siez`"):
        msgspec.convert({"siez": 1}, Own)


@pytest.mark.parametrize("wrong", [{"size": -1}, {"wait": -0.1}, {"wait": 6}, {"size": "1"}])
def test_limits_hold(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Own)


def test_a_section_cannot_be_changed():
    with pytest.raises(AttributeError):
        Own().size = 2


def test_every_setting_has_a_default_a_sentence_and_lives_in_a_described_section():
    for name, section in typing.get_type_hints(Settings).items():
        if not (inspect.isclass(section) and issubclass(section, Section)):
            continue
        assert section.__doc__, name
        for key, hint in typing.get_type_hints(section, include_extras=True).items():
            metas = [m for m in typing.get_args(hint)[1:] if isinstance(m, msgspec.Meta)]
            assert any(meta.description for meta in metas), f"{name}.{key}"
        section()
