"""A section of the settings: each room declares its own, `daemon.settings` puts them together."""

from __future__ import annotations

from typing import Annotated, Any, dataclass_transform

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=0)]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file; every key has a default and a sentence."""


def described(text: str, **limits: Any) -> Meta:
    """Attach the sentence that default.toml and the reference print."""
    return Meta(description=text, **limits)
