"""`python -m presel_lightning SUBCOMMAND --config FILE [--key value …]`."""

from __future__ import annotations

import sys

from presel_lightning.run import interruption


def run() -> None:
    """Leave with the command's exit code, or with a signal's as soon as it is safe."""
    interruption.install()
    from presel_lightning.cli.main import main

    try:
        code = main()
    finally:
        interruption.finish()
    sys.exit(code)


if __name__ == "__main__":
    run()
