"""What expressions name: the paths that are written out in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NULLS = frozenset({"null"})
"""JSON's word, which Jinja does not know."""


def paths(tree: Any) -> Iterator[tuple[str, ...]]:
    """Yield what an expression names, as far as that is written: `("steps", "test", "stdout")`."""
    pending = [tree]
    while pending:
        node = pending.pop()
        path, base = _path(node)
        if path:
            yield path
            pending += _indices(node, base)
        else:
            pending += node.iter_child_nodes()


def _path(node: Any) -> tuple[tuple[str, ...], Any]:
    """Return the keys that lead here from a name, and the node after which they are not known."""
    chain: list[Any] = []
    while type(node).__name__ in {"Getattr", "Getitem"}:
        chain.append(node)
        node = node.node
    if type(node).__name__ != "Name" or node.name in NULLS:
        return (), None
    path = [node.name]
    for link in reversed(chain):
        key = link.attr if type(link).__name__ == "Getattr" else getattr(link.arg, "value", None)
        if not isinstance(key, str):
            break
        path.append(key)
    return tuple(path), node


def _indices(node: Any, base: Any) -> Iterator[Any]:
    """Yield what stands in the brackets of a chain, which may name something too."""
    while node is not base:
        if type(node).__name__ == "Getitem":
            yield node.arg
        node = node.node
