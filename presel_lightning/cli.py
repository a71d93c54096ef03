"""The two doors: commands that train (LightningCLI) and light ones (plain functions)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from presel_lightning import __version__
from presel_lightning.console import quiet
from presel_lightning.errors import PreselError, UserError
from presel_lightning.mistakes import explain, read_config, suggest

HELP = f"""presel_lightning {__version__}: choose which images deserve an instruction, then prove it by training

usage: python -m presel_lightning SUBCOMMAND --config FILE [--any.key value ...]

  fit       select, train on the selection, train the baselines, score all of them, report
  select    the same up to the selection
  compare   selectors x budgets x seeds on equal terms, beside full data and the untrained model
  check     config, data and environment examined without training
  evaluate  the benchmarks on one checkpoint (--checkpoint DIR)
  export    the selection or the final model in another tool's format (--run DIR --to csv --path P)
  report    the report of an existing run folder, again (--run DIR), or what two selections
            share and where they part (--diff RUN_A RUN_B)

FILE is a path or the name of a shipped config ({{configs}}).
`SUBCOMMAND --help` lists every key, `--print_config` prints the resolved ones, `--debug` shows tracebacks.
"""

TRAINING = ("fit", "select", "compare", "evaluate", "check")
SERVING = ("prepare",)
"""Commands that `compare` gives to its own processes."""


def configs_folder() -> Path:
    """Where the shipped configs lie."""
    return Path(__file__).parent / "configs"


def find_configs(argv: Sequence[str]) -> tuple[list[str], str]:
    """Resolve the names of shipped configs and put files before options, which then win.

    Returns:
        The arguments, and the name of the last config (for the default run folder).

    Raises:
        UserError: no such file and no such shipped config, or it is no YAML with keys.
    """
    files: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        key, has_value, value = word.partition("=")
        if key not in ("--config", "-c"):
            if re.match(r"-[a-z]{2}", word):
                raise UserError(f"{word}: options begin with two dashes; did you mean -{word}?")
            rest.append(word)
            continue
        name = value if has_value else next(words, "")
        shipped = configs_folder() / name
        if not Path(name).is_file() and not (name and shipped.is_file()):
            known = sorted(path.name for path in configs_folder().glob("*.yaml"))
            cure = suggest(name, known) or f" ({', '.join(known)})"
            what = f"{name}: no such file, and no shipped config" if name else "needs a file"
            raise UserError(f"--config {what}{cure}")
        files.append(name if Path(name).is_file() else str(shipped))
        read_config(files[-1])
    options = [word for file in files for word in ("--config", file)]
    return options + rest, Path(files[-1]).stem if files else "run"


def report(run: str | None = None, diff: list[str] | None = None, out: str | None = None) -> None:
    """Write the report of a run folder again, or compare the selections of two.

    Args:
        run: folder that `fit` wrote.
        diff: two run folders.
        out: `--diff` only: file of the page; RUN_A/report/diff-RUN_B.html by default.
    """
    if (run is None) == (diff is None):
        raise UserError("report needs --run DIR, or --diff RUN_A RUN_B")
    if diff is not None:
        from presel_lightning.eval.selection_diff import write_diff

        place = write_diff(Path(diff[0]), Path(diff[1]), Path(out) if out else None)
        print(f"what the two selections share: {place}")
        return
    from presel_lightning.eval.report import print_summary, write_report

    folder = Path(str(run))
    if out is not None:
        raise UserError("--out goes with --diff; the report of a run lies in the run folder")
    if not (folder / "run.json").is_file():
        raise UserError(f"--run {run}: no run.json there; give a folder that `fit` wrote")
    write_report(folder)
    print_summary(folder)


def export(
    run: str,
    to: str,
    path: str,
    images: str | None = None,
    image_root: str | None = None,
    shard_mb: int | None = None,
    language_model: str | None = None,
    vision_tower: str | None = None,
) -> None:
    """Write the selection or the final model of a run in another tool's format.

    Args:
        run: folder that `select` or `fit` wrote.
        to: the selection: `llava-json` LLaVA's records, `llama-factory` ShareGPT with its
            dataset_info.json, `ms-swift` JSON lines, `trl` a Hugging Face dataset in parquet with
            its images, `webdataset` tar shards, `npy` DataComp's array of uids, `csv` a table; the
            final model: `hf` merged transformers checkpoint, `adapter` PEFT's own, `llava` the
            original LLaVA's merged layout, `llava-lora` its adapter with non_lora_trainables.bin.
        path: new folder to write.
        images: `llava-json`, `llama-factory`, `ms-swift`: `none` names images by their absolute
            paths (default), `copy` and `link` put them into the folder.
        image_root: selection only: where the images lie now, if they were moved since the run.
        shard_mb: `trl`, `webdataset`: megabytes from which on the next file is begun (500).
        language_model: `llava`, `llava-lora`: what the base was made of, where it is not known.
        vision_tower: `llava`, `llava-lora`: likewise.
    """
    from presel_lightning.export.run import export_run

    line = export_run(
        run,
        to,
        path,
        images=images,
        image_root=image_root,
        shard_mb=shard_mb,
        language_model=language_model,
        vision_tower=vision_tower,
    )
    print(line)


LIGHT: dict[str, Callable[..., None]] = {"report": report, "export": export}


def run_light(command: str, argv: Sequence[str]) -> None:
    """Run a command that needs no model."""
    program = f"presel_lightning {command}"
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, prog=program)
    own: set[str | int] = {"diff"} if command == "report" else set()
    parser.add_function_arguments(LIGHT[command], skip=own)
    if command == "report":  # two words after one option, as people write it
        parser.add_argument("--diff", nargs=2, metavar=("RUN_A", "RUN_B"), help="two run folders")
    try:
        options = vars(parser.parse_args(list(argv)))
    except ArgumentError as error:
        raise UserError(explain(str(error), list(parser.get_defaults().keys()))) from error
    LIGHT[command](**options)


def tell_start() -> None:
    """Say on a terminal that libraries are being loaded, which takes some seconds."""
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    first = all(os.environ.get(name, "0") == "0" for name in ranks)
    if first and sys.stderr.isatty() and "torch" not in sys.modules:
        print("presel_lightning: loading torch and transformers", file=sys.stderr, flush=True)


def run_training(command: str, argv: Sequence[str]) -> None:
    """Run a command of the recipe."""
    if not argv:
        raise UserError(f"{command} needs --config FILE, such as --config quickstart.yaml")
    arguments, name = find_configs(argv)
    tell_start()
    quiet()
    from presel_lightning.lightning_cli import recipe_from
    from presel_lightning.lock import leave

    try:
        recipe, options = recipe_from(command, arguments, name)
        getattr(recipe, command)(**options)
    except OSError as error:
        if "huggingface.co" not in str(error):
            raise
        raise UserError(
            f"a model is neither a folder nor within the hub's reach ({error}); look at "
            "--checkpoint, model.checkpoint, model.components and stages.features.model.checkpoint"
        ) from error
    finally:
        leave()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 2 the user's mistake, 3 waiting, 130 stopped by Ctrl-C, 1 any other."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or bool(os.environ.get("PRESEL_LIGHTNING_DEBUG"))
    words = [word for word in words if word != "--debug"]
    command = words.pop(0) if words else "--help"
    if command in ("-h", "--help", "help"):
        print(
            HELP.format(configs=", ".join(sorted(p.name for p in configs_folder().glob("*.yaml"))))
        )
        return 0
    if command == "--version":
        print(__version__)
        return 0
    try:
        if command in LIGHT:
            run_light(command, words)
        elif command in (*TRAINING, *SERVING):
            run_training(command, words)
        else:
            known = [*TRAINING, *LIGHT]
            cure = suggest(command, known)
            raise UserError(f"unknown command {command!r}; choose of {', '.join(known)}{cure}")
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C in a fit into an exit of its own
        interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(
            stop.__context__, KeyboardInterrupt
        )
        if debug or not interrupted:
            raise
        print("presel_lightning: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except PreselError as error:
        if debug:
            raise
        if not error.told:
            print(f"presel_lightning: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0
