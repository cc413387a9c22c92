"""Files that are protected from writing stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.core.errors import Conflict
from domains.file.commands.changing import WriteFile
from domains.file.disk import writing


def test_a_file_without_write_permission_is_not_replaced(unprivileged: Path) -> None:
    path = unprivileged / "f"
    path.write_text("kept")
    path.chmod(0o444)
    asked = WriteFile(project_id="own", path="f", content="new")
    with pytest.raises(Conflict, match="f is protected"):
        writing.write(str(unprivileged), ("f",), asked, b"new")
    assert (path.read_text(), [each.name for each in unprivileged.iterdir()]) == ("kept", ["f"])
    path.chmod(0o644)
    assert writing.write(str(unprivileged), ("f",), asked, b"new").size == 3
    assert path.read_text() == "new"
