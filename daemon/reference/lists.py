"""The page's chapters that are lists: routes, error codes, close codes, settings and metrics."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.reference.configuration import Key, Table, configuration
from daemon.reference.docstrings import first_line
from daemon.reference.markup import Links, code, escape, heading, inline, table
from daemon.reference.routes import DOORS, refusals
from daemon.web.close import CloseCode
from daemon.web.metrics import METRICS


def doors(links: Links) -> str:
    """List the routes that are no commands, with their parameters."""
    rows = (
        (
            code(f"{route.method} {route.path}"),
            "no" if route.anybody else "yes",
            inline(f"{route.summary} {route.description}", links),
            "<br>".join(f"{code(each.name)}: {inline(each.sentence)}" for each in route.parameters),
        )
        for route in DOORS
    )
    return table(("Route", "Token", "Does", "Parameters"), rows)


def errors(links: Links) -> str:
    """List the error codes."""
    rows = (
        (code(error.code), str(status), inline(first_line(error), links))
        for status, of_status in refusals().items()
        for error in of_status
    )
    return table(("Code", "HTTP status", "Meaning"), sorted(rows))


def close_codes(links: Links) -> str:
    """List the close codes of the WebSocket."""
    rows = ((code(str(int(each))), inline(each.meaning, links)) for each in CloseCode)
    return table(("Code", "Meaning"), rows)


def settings(links: Links) -> str:
    """List every setting of every table."""
    return "\n".join(_settings(each, links) for each in configuration())


def setting_entries() -> tuple[tuple[str, str], ...]:
    """Give the tables of the settings, with their anchors."""
    return tuple((f"[{each.name}]", f"settings-{each.name}") for each in configuration())


def _settings(of: Table, links: Links) -> str:
    rows = (_setting(of, key, links) for key in of.keys)
    title = heading(3, code(f"[{of.name}]"), f"settings-{of.name}")
    sentence = f"<p>{inline(of.sentence, links)}</p>"
    return f"{title}\n{sentence}\n{table(('Key', 'Type', 'Default', 'Meaning'), rows)}"


def _setting(of: Table, key: Key, links: Links) -> Iterator[str]:
    yield f'<span id="setting-{escape(of.name)}.{escape(key.name)}">{code(key.name)}</span>'
    choices = " ".join(map(code, key.choices))
    yield f"{escape(key.type)} {choices}{f' ({escape(key.limits)})' if key.limits else ''}"
    yield code(key.default)
    yield f'{inline(key.sentence, links)}<br><span class="variable">{code(key.variable)}</span>'


def metrics() -> str:
    """List the metrics by the names that Prometheus sees."""
    rows = (
        (
            code(f"agentcmd_{each.name}"),
            each.kind,
            " ".join(map(code, each.labels)) or "none",
            escape(each.help),
        )
        for each in METRICS
    )
    return table(("Metric", "Kind", "Labels", "Meaning"), rows)
