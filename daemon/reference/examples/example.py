"""What an example is, and whom all examples are about."""

from __future__ import annotations

from typing import Any, NamedTuple

Data = dict[str, Any]

PROJECT_ID = "shop-3f9c1a"
OF_PROJECT: Data = {"projectId": PROJECT_ID}


class Example(NamedTuple):
    """What a command is given, and what it then answers."""

    data: Data
    answer: Data
