"""Commands without a model; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import gettempdir

from jsonargparse import ArgumentError, ArgumentParser

from presel_lightning.cli.mistakes import explain
from presel_lightning.console import ignore_image_warnings
from presel_lightning.errors import UserError
from presel_lightning.run.storage import storing_anywhere


def report(run: str | None = None, diff: list[str] | None = None, out: str | None = None) -> None:
    """Rewrite the report of a run folder, or compare the selections of two.

    Args:
        run: folder that `fit` wrote.
        diff: two run folders.
        out: `--diff` only: file of the page; RUN_A/report/diff-RUN_B.html by default.
    """
    if (run is None) == (diff is None):
        raise UserError("report needs --run DIR, or --diff RUN_A RUN_B")
    if diff is not None:
        from presel_lightning.eval.report.selection_diff import write_diff

        place = write_diff(Path(diff[0]), Path(diff[1]), Path(out) if out else None)
        print(f"comparison of the two selections: {place}")
        return
    from presel_lightning.eval.report.report import print_summary, write_report

    folder = Path(str(run))
    if out is not None:
        raise UserError("--out requires --diff; the report of a run is in the run folder")
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
        image_root: selection only: folder of the images, if they were moved since the run.
        shard_mb: `trl`, `webdataset`: megabytes after which the next shard starts (500).
        language_model: `llava`, `llava-lora`: language model of the base, where it is not recorded.
        vision_tower: `llava`, `llava-lora`: vision tower of the base, where it is not recorded.
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
    """Run a command without a model."""
    ignore_image_warnings()
    program = f"presel_lightning {command}"
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, prog=program)
    own: set[str | int] = {"diff"} if command == "report" else set()
    parser.add_function_arguments(LIGHT[command], skip=own)
    if command == "report":  # two values after one option
        parser.add_argument("--diff", nargs=2, metavar=("RUN_A", "RUN_B"), help="two run folders")
    try:
        options = vars(parser.parse_args(list(argv)))
    except ArgumentError as error:
        raise UserError(explain(str(error), list(parser.get_defaults().keys()))) from error
    with storing_anywhere(lambda: [Path.cwd(), Path(gettempdir())]):
        LIGHT[command](**options)
