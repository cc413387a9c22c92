"""What a project can do is found in bounded time, whatever lies in its folder of workflows."""

from __future__ import annotations

from domains.project import service


def test_a_huge_folder_of_workflows_is_walked_in_part(tmp_path, monkeypatch):
    folder = tmp_path / ".agent" / "workflows" / "deep"
    folder.mkdir(parents=True)
    for number in range(50):
        (folder / f"{number}.yaml").touch()
    assert len(service._look_around(tmp_path)[1]) == 50
    monkeypatch.setattr(service, "WALKED", 11)
    assert len(service._look_around(tmp_path)[1]) == 10


def test_a_folder_of_workflows_that_leads_out_is_not_walked(tmp_path):
    (tmp_path / "own" / ".agent").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.yaml").touch()
    (tmp_path / "own" / ".agent" / "workflows").symlink_to(tmp_path / "outside")
    assert service._look_around(tmp_path / "own")[1] == []
