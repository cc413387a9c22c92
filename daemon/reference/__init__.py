"""What is written about the code, written by the code: tables, default.toml, and three documents.

`python -m daemon.reference` writes all of it; with `--check` it fails where something differs, as
in CI. Everything comes from the registry, the settings, the errors, the close codes and the metrics
as they are declared; only `guide.md`, `fields.py` and `examples.py` are written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.app import build_registry, workflow_schema
from daemon.core.registry import Registry
from daemon.reference.asyncapi import asyncapi
from daemon.reference.docstrings import first_line
from daemon.reference.openapi import openapi
from daemon.reference.page import page
from daemon.reference.tables import default_toml, tables

__all__ = ["ROOT", "default_toml", "first_line", "stale", "written"]

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"


def written(root: Path, registry: Registry | None = None) -> dict[Path, str]:
    """Give every file that the code writes, with what should stand in it.

    LookupError where something that is declared has no docstring, or no sentence.
    """
    registry = registry or build_registry()
    readme = root / "README.md"
    documents = root / "daemon" / "web" / "docs"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        root / "config" / "default.toml": default_toml(),
        root / "config" / "workflow.schema.json": _json(workflow_schema()),
        readme: f"{before}{BEGIN}\n{tables(registry)}\n{END}{after}",
        documents / "openapi.json": _json(openapi(registry)),
        documents / "asyncapi.json": _json(asyncapi(registry)),
        documents / "index.html": page(registry),
    }


def stale(root: Path, registry: Registry | None = None) -> dict[Path, str]:
    """Give those of the files that differ from what should stand in them."""
    return {
        path: text
        for path, text in written(root, registry).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
