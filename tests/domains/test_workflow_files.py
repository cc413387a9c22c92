"""Where workflow files are found, and what is told of those that cannot be."""

from __future__ import annotations

import pytest
from flows import Flows

from daemon.core.errors import BadRequest


@pytest.fixture
async def flows(running, tmp_path):
    """A project in a folder below another one, with one workflow."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "work" / "own", good="- {id: one, run: 'true'}")


async def listed(flows):
    found = await flows.client.call("workflow.list", {"projectId": flows.project})
    return {each["id"]: each.get("problem", "") for each in found["workflows"]}


async def test_workflows_are_found_when_a_folder_above_the_project_becomes_a_link(flows, tmp_path):
    (tmp_path / "work").rename(tmp_path / "moved")
    (tmp_path / "work").symlink_to(tmp_path / "moved")
    assert await listed(flows) == {"good": ""}
    assert (await (await flows.start("good")).end())["type"] == "completed"


async def test_a_folder_that_leads_out_of_the_project_is_told_and_not_walked(flows):
    folder = flows.folder / ".agent/workflows"
    folder.rename(flows.folder / "kept")
    folder.symlink_to("/usr")
    assert await listed(flows) == {
        ".agent/workflows": ".agent/workflows: it is a link that leads out of the project"
    }
    with pytest.raises(BadRequest, match="leads out of the project"):
        await flows.start(".agent/workflows")
    folder.unlink()
    folder.symlink_to(flows.folder / "kept")
    assert await listed(flows) == {"good": ""}


async def test_a_folder_that_holds_too_much_is_told_beside_what_was_found(flows):
    folder = flows.folder / ".agent/workflows"
    for n in range(1100):
        (folder / f"w{n:04}.yaml").write_text("steps: []")
    found = await listed(flows)
    assert "good" in found
    assert len(found) == 1001
    assert "too much" in found[".agent/workflows"]


async def test_folders_that_lead_into_themselves_or_very_deep_are_no_trouble(flows):
    folder = flows.folder / ".agent/workflows"
    (folder / "loop").symlink_to(folder)
    deep = folder
    for _ in range(300):
        deep /= "d"
        deep.mkdir()
    (deep / "never.yaml").write_text("steps: []")
    (folder / "d" / "d" / "near.yaml").write_text("steps: [{id: a, run: 'true'}]")
    assert await listed(flows) == {"good": "", "d/d/near": ""}
