"""Runs the benchmarks: `python tests/benchmarks/run.py [--only NAME]... [--quick]`.

Each prints what it measured beside what is to be reached; ratios are of one run on one machine. The
last line is all of it as JSON. The peers on Node are installed once, into the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys

import doors
import fanout
import files
import flood
import git_files
import idle
import journal
import lag
import spawns
import terminals
import watching
import workflows

BENCHMARKS = {
    "doors": doors.run,
    "fanout": fanout.run,
    "files": files.run,
    "flood": flood.run,
    "git": git_files.run,
    "idle": idle.run,
    "journal": journal.run,
    "lag": lag.run,
    "spawns": spawns.run,
    "terminals": terminals.run,
    "watching": watching.run,
    "workflows": workflows.run,
}


def main() -> int:
    """Run what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="run this one")
    parser.add_argument("--quick", action="store_true", help="once each, and shorter")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    figures = []
    for name in args.only or BENCHMARKS:
        for figure in BENCHMARKS[name](quick=args.quick):
            sys.stdout.write(figure.line() + "\n")
            sys.stdout.flush()
            figures.append(figure)
    told = {"machine": machine(), "figures": {f.name: round(f.value, 4) for f in figures}}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def machine() -> str:
    """Say what it ran on."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, Node {node.stdout.strip()}"
    )


if __name__ == "__main__":
    sys.exit(main())
