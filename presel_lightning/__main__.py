"""`python -m presel_lightning SUBCOMMAND --config FILE [--key value …]`."""

from __future__ import annotations

import os
import sys

from presel_lightning.run import interruption
from presel_lightning.run.process_watch import exit_with_known_parent


def run() -> None:
    """Leave with the command's exit code, or with a signal's as soon as it is safe.

    The console script finds modules of the current folder as `python -m presel_lightning` does.
    """
    interruption.install()
    exit_with_known_parent()
    here = os.getcwd()
    if not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    from presel_lightning.cli.main import main

    try:
        code = main()
    finally:
        interruption.finish()
    sys.exit(code)


if __name__ == "__main__":
    run()
