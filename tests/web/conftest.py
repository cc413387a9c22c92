"""Fixtures of the tests of the doors."""

from __future__ import annotations

import functools

import pytest
from support import RawSocket


@pytest.fixture
async def raw_to():
    """Make raw sockets to a daemon that end with the test; with `request`, of plain bytes."""
    made = []

    async def connect(running, *, request=None, **options):
        if request is None:
            made.append(await RawSocket.connect(running, **options))
        else:
            made.append(await RawSocket.open(running, request, **options))
        return made[-1]

    yield connect
    for each in made:
        each.close()


@pytest.fixture
def raw(running, raw_to):
    """Make raw WebSockets to the daemon with default settings."""
    return functools.partial(raw_to, running)
