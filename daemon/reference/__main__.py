"""The command `python -m daemon.reference`: writes what the code says, or checks it."""

from __future__ import annotations

import argparse
import sys

import daemon.reference
from daemon.reference import ROOT, stale


def main() -> int:
    """Write the files that differ, or with `--check` name them and fail."""
    parser = argparse.ArgumentParser(
        prog="python -m daemon.reference", description=daemon.reference.__doc__
    )
    parser.add_argument("--check", action="store_true", help="fail where a file differs")
    args = parser.parse_args()
    found = stale(ROOT)
    if found and args.check:
        names = ", ".join(str(path.relative_to(ROOT)) for path in found)
        sys.stderr.write(f"stale: {names}; run 'python -m daemon.reference'\n")
        return 1
    for path, text in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
