"""`python -m presel_lightning SUBCOMMAND --config FILE [--key value …]`."""

from __future__ import annotations

import sys

from presel_lightning.cli.main import main


def run() -> None:
    """Leave with the command's exit code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
