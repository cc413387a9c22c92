"""Workflows at their edges: what is hostile, too much, or comes at the worst moment."""

from __future__ import annotations

import pytest
from flows import Flows

from daemon.core.errors import NotFound


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


@pytest.mark.parametrize("run_id", ["/etc", "..", ".", "../../etc", "a\0b", "x" * 5000])
async def test_no_file_outside_of_the_kept_ones_is_an_artifact(flows, tmp_path, run_id):
    (tmp_path / "state/hosts").write_text("of the daemon")
    with pytest.raises(NotFound, match="no run"):
        await flows.client.call("workflow.artifact", {"runId": run_id, "name": "hosts"})
