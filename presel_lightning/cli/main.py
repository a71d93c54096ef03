"""Entry point: commands with a model (LightningCLI), and light commands (plain functions)."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from presel_lightning import __version__
from presel_lightning.cli.configs import configs_folder, find_configs
from presel_lightning.cli.light import LIGHT, SELECT_FEATURES, WEB, run_light
from presel_lightning.cli.mistakes import suggest
from presel_lightning.cli.short_help import ALL, asked_for, short_help
from presel_lightning.console import quiet
from presel_lightning.errors import PreselError, UserError
from presel_lightning.run import interruption
from presel_lightning.run.own_code import failure
from presel_lightning.run.pages import DOCS

HELP = f"""presel_lightning {__version__}: select the images to annotate, then train on the selection

usage: python -m presel_lightning SUBCOMMAND --config FILE [--any.key value ...]

  fit       select, train on the selection, train the baselines, score all of them, report
  select    the same up to the selection
  compare   selectors x budgets x seeds on equal terms, beside full data and the untrained model
  validate  do the scores of --selectors predict what random subsets are worth?
  check     config, data and environment examined without training
  prepare   the pool and signals alone, for a script (--signals features --out RUN)
  evaluate  the benchmarks on one checkpoint (--checkpoint DIR)
  export    the selection or the final model in another tool's format (--run DIR --to csv --path P)
  probe     which selection pays on these images: labels and features in, a table out
  report    the report of an existing run folder, again (--run DIR), or the comparison of two
            selections (--diff RUN_A RUN_B)
  review    a local page: look at what was selected, veto and pin images, write instructions
            (--run DIR)
  filter    web-scale metadata by rules to a file of uids (--metadata DIR --rules '[...]' --output F)
  reshard   the shards of those uids alone (--input DIR --subset F --output DIR)
  score     a judge's ratings and CLIP similarities of the pairs of shards, for `filter --scores`
            (--input DIR --output DIR --judge CHECKPOINT --clip CHECKPOINT), and features of the images
  cluster   the clusters of a table of features, task by task (--features F --output F)

FILE is a path or the name of a shipped config ({{configs}}).
Pages that are named as docs/NAME.md lie in {{docs}}.
`SUBCOMMAND --help` lists the keys in daily use, `--help all` every key; `--print_config` prints the resolved
ones, `--debug` shows tracebacks. `--print_completion bash` (or zsh) prints a script for completion.
"""

TRAINING = ("fit", "select", "compare", "validate", "evaluate", "check", "prepare")
COMPLETION = "--print_completion"


def report_loading() -> None:
    """Print on a terminal that libraries are loading, which takes some seconds."""
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    first = all(os.environ.get(name, "0") == "0" for name in ranks)
    if first and sys.stderr.isatty() and "torch" not in sys.modules:
        print("presel_lightning: loading torch and transformers", file=sys.stderr, flush=True)


def run_training(command: str, argv: Sequence[str]) -> None:
    """Run a command of the recipe; torch is imported after its config files have been found."""
    if not argv:
        raise UserError(f"{command} needs --config FILE, such as --config quickstart.yaml")
    asked, argv = asked_for(argv)
    if asked not in ("", ALL):
        print(short_help(command))
        return
    arguments, name = find_configs(argv)
    report_loading()
    load_libraries()
    from presel_lightning.cli.training import run

    run(command, arguments, name, main)


def load_libraries() -> None:
    """Import what the commands of the recipe use; quickly in a process that has just started."""
    if "torch" in sys.modules:  # of a notebook or a test, whose objects are not for us to keep
        quiet()
        return
    with collection_paused():
        quiet()
        import presel_lightning.cli.training  # noqa: F401


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection, and leave the objects made meanwhile out of later collections.

    Imports of torch and Lightning make 700,000 objects that live as long as the process; full
    collections visit all of them again and again, which took a quarter of the time of a start.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def dispatch(command: str, words: Sequence[str]) -> None:
    """Run a command by its name.

    Raises:
        UserError: there is none of this name.
    """
    if command in LIGHT or command in WEB:
        run_light(command, asked_for(words)[1])
    elif command.partition("=")[0] == COMPLETION:
        from presel_lightning.cli.completion import completion

        print(completion(command.partition("=")[2] or "".join(words), TRAINING))
    elif command == "select" and any(word.startswith("--data.features") for word in words):
        run_light(SELECT_FEATURES, words)
    elif command in TRAINING:
        run_training(command, words)
    else:
        known = [*TRAINING, *LIGHT, *WEB]
        cure = suggest(command, known)
        raise UserError(f"unknown command {command!r}; choose from {', '.join(known)}{cure}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        Exit code: 0 done, 2 user error, 3 waiting for instructions, 130 stopped by Ctrl-C, 1 any
        other error. A process that takes signals itself (`run.interruption`) ends with theirs.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or bool(os.environ.get("PRESEL_LIGHTNING_DEBUG"))
    words = [word for word in words if word != "--debug"]
    command = words.pop(0) if words else "--help"
    if command in ("-h", "--help", "help"):
        configs = ", ".join(sorted(p.name for p in configs_folder().glob("*.yaml")))
        print(HELP.format(configs=configs, docs=DOCS))
        return 0
    if command == "--version":
        print(__version__)
        return 0
    try:
        dispatch(command, words)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C in a fit into SystemExit
        interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(
            stop.__context__, KeyboardInterrupt
        )
        if debug or not interrupted:
            raise
        print("presel_lightning: stopped; the same command continues from here", file=sys.stderr)
        return 130
    except PreselError as error:
        interruption.leave_if_asked()
        if debug:
            raise
        if error.reported:
            interruption.await_parent()
        else:
            print(f"presel_lightning: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        interruption.leave_if_asked()
        if debug or not report_own(error):
            raise
        return 1
    return 0


def report_own(error: Exception) -> bool:
    """Print an error of the user's own code in one line; return whether it is one."""
    found = failure(error)
    if found is not None:
        print(f"presel_lightning: {found} (--debug shows the whole trace)", file=sys.stderr)
    return found is not None
