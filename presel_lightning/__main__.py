"""`python -m presel_lightning SUBCOMMAND --config FILE [--key value …]`."""

from __future__ import annotations

import os
import sys

from presel_lightning.cli.main import main


def run() -> None:
    """Leave with the command's exit code.

    The console script finds modules of the current folder as `python -m presel_lightning` does.
    """
    here = os.getcwd()
    if not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    sys.exit(main())


if __name__ == "__main__":
    run()
