"""Commands without a model; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.mistakes import explain
from presel_lightning.console import ignore_image_warnings
from presel_lightning.errors import UserError
from presel_lightning.run.files import read_json
from presel_lightning.run.ranges import Count, Port, Positive, Size
from presel_lightning.run.storage import storing_anywhere


def report(
    run: str | None = None,
    diff: list[str] | None = None,
    out: str | None = None,
    image_root: str | None = None,
) -> None:
    """Rewrite the report of a run folder, or compare the selections of two.

    Args:
        run: folder that `select` or `fit` wrote.
        diff: two run folders.
        out: `--diff` only: file of the page; RUN_A/report/diff-RUN_B.html by default.
        image_root: `--run` only: folder of the images, if they were moved since the run; `none` for
            a page without images.
    """
    if (run is None) == (diff is None):
        raise UserError("report needs --run DIR, or --diff RUN_A RUN_B")
    if diff is not None and image_root is not None:
        raise UserError("--image_root requires --run; --diff finds the images of both runs itself")
    if diff is not None:
        from presel_lightning.eval.report.selection_diff import write_diff
        from presel_lightning.eval.report.setup_diff import setup_lines

        place = write_diff(Path(diff[0]), Path(diff[1]), Path(out) if out else None)
        for line in setup_lines(read_json(place.with_suffix(".json"))["setup"]):
            print(line)
        print(f"comparison of the two selections: {place}")
        return
    from presel_lightning.eval.report.report import print_summary, write_report

    folder = Path(str(run))
    if out is not None:
        raise UserError("--out requires --diff; the report of a run is in the run folder")
    if not (folder / "run.json").is_file():
        raise UserError(
            f"--run {run}: no run.json there; give a folder that `select` or `fit` wrote"
        )
    if image_root not in (None, NO_IMAGES) and not Path(image_root).is_dir():
        raise UserError(f"--image_root {image_root}: no such folder")
    without = image_root == NO_IMAGES
    root = None if image_root is None or without else Path(image_root)
    write_report(folder, root, images="none" if without else "needed")
    print_summary(folder)


def export(
    run: str,
    to: str,
    path: str,
    images: str | None = None,
    image_root: str | None = None,
    uids: str | None = None,
    shard_mb: Count | None = None,
    language_model: str | None = None,
    vision_tower: str | None = None,
) -> None:
    """Write the selection or the final model of a run in another tool's format.

    Args:
        run: folder that `select` or `fit` wrote.
        to: the selection: `llava-json` LLaVA's records, `llama-factory` ShareGPT with its
            dataset_info.json, `ms-swift` JSON lines, `trl` a Hugging Face dataset in parquet with
            its images, `hf-dataset` one of the images, annotated or not, `images` the pictures in a
            folder for each task, `contact-sheets` a PDF of them for each task, `webdataset` tar shards, `npy` DataComp's array of uids, `csv` a table; the
            final model: `hf` merged transformers checkpoint, `adapter` PEFT's own, `llava` the
            original LLaVA's merged layout, `llava-lora` its adapter with non_lora_trainables.bin.
        path: new folder to write.
        images: `llava-json`, `llama-factory`, `ms-swift`: `none` names images by their absolute
            paths (default), `copy` and `link` put them into the folder; `images`: `copy` (default)
            or `link`.
        image_root: selection only: folder of the images, if they were moved since the run.
        uids: selection only: `presel` names samples by our uids (default), `own` by the `uid` of
            their records, where these bring one.
        shard_mb: `trl`, `hf-dataset`, `webdataset`: megabytes after which the next shard starts (500).
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
        uids=uids,
        shard_mb=shard_mb,
        language_model=language_model,
        vision_tower=vision_tower,
    )
    print(line)


def review(run: str, image_root: str | None = None, port: Port = 0) -> None:
    """Look at what was selected on a local page, veto and pin images, write instructions.

    Args:
        run: folder that `select` or `fit` wrote, or in which one waits for instructions.
        image_root: folder of the images, if they were moved since the run.
        port: port of this machine to listen on; 0 takes a free one.
    """
    from presel_lightning.review.command import serve_review

    serve_review(Path(run), image_root, port)


def probe(
    features: str | None = None,
    labels: str | None = None,
    probe_features: str | None = None,
    splits: Count = 12,
    test: Size = 0.2,
    strength: Positive = 0.01,
    seed_everything: int = 0,
    out: str = "runs/probe",
    methods: list[str] | None = None,
    budgets: list[int | float] | None = None,
    annotations: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Which selection pays on these images: a linear probe on what each method selects.

    Args:
        features: what the methods see: `.npy` (N, D), `.npz` with `features` and `label`, or a run
            folder, whose tasks are the labels.
        labels: class of each row: `.npy`, `.csv` with a column `label`, or text with a label a line.
        probe_features: what the classifier sees, if it is something else than `features`.
        splits: number of random splits into a pool and test images.
        test: test images of a split, a fraction or a count.
        strength: C of the logistic regression, the inverse of its L2 penalty.
        seed_everything: seed of the first split.
        out: folder of `probe.json`.
        methods: selectors, or rules inside a task by their short names.
        budgets: what is selected of the pool, each a fraction or a count.
        annotations: folder of folders of images, a folder a label; features are made first.
        checkpoint: with `--data.annotations`: vision encoder of the features, as
            `stages.features.model.checkpoint` takes it; that of `photos.yaml` by default.

    Raises:
        UserError: neither features nor annotations are given, or a checkpoint with features.
    """
    from presel_lightning.cli.probe import features_of_images, run_probe
    from presel_lightning.eval.linear_probe import Trial

    if (features is None) == (annotations is None):
        raise UserError(
            "probe needs --features FILE, or --data.annotations FOLDER of labeled images"
        )
    if checkpoint is not None and features is not None:
        raise UserError("--checkpoint requires --data.annotations; --features are made already")
    source = features_of_images(str(annotations), out, checkpoint) if features is None else features
    given = {"methods": methods, "budgets": budgets}
    trial = Trial(
        splits=splits,
        test=test,
        strength=strength,
        seed=seed_everything,
        **{key: tuple(value) for key, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    run_probe(source, labels, probe_features, trial, out)


def select_features(
    features: str,
    tasks: str | None = None,
    excluded: str | None = None,
    budget: Size = 0.15,
    selector: str = "Medoids",
    seed_everything: int = 0,
    out: str = "runs/features",
) -> None:
    """Select rows of a table of features: no images, no model, no run folder."""
    from presel_lightning.cli.features import select_rows

    select_rows(features, tasks, excluded, budget, selector, seed_everything, out)


NO_IMAGES = "none"
"""`--image_root` of a report without images."""

LIGHT: dict[str, Callable[..., None]] = {
    "report": report,
    "review": review,
    "export": export,
    "probe": probe,
}

WEB = ("filter", "reshard", "score", "cluster")
"""Commands of `cli.web`, which take a config file."""

SELECT_FEATURES = "select --data.features"
"""`select` with this option is a command of its own."""

COMMANDS = {**LIGHT, SELECT_FEATURES: select_features}

LISTS: dict[str, dict[str, dict[str, Any]]] = {
    "report": {"--diff": {"nargs": 2, "metavar": ("RUN_A", "RUN_B"), "help": "two run folders"}},
    SELECT_FEATURES: {
        "--data.features": {
            "dest": "features",
            "help": "`.npy` (N, D), a row an image, or the folder of `score --features`",
        },
        "--data.tasks": {"dest": "tasks", "help": "task of each row: text, `.csv` or `.npy`"},
        "--data.excluded": {"dest": "excluded", "help": "`.npy` of rows never to select"},
        "--data.budget": {
            "dest": "budget",
            "type": Size,
            "default": 0.15,
            "help": "rows to select, a fraction or a count",
        },
    },
    "probe": {
        "--methods": {"nargs": "+", "type": str, "help": "selectors, or rules inside a task"},
        "--budgets": {"nargs": "+", "type": Size, "help": "fractions of the pool, or counts"},
        "--data.annotations": {
            "dest": "annotations",
            "help": "folder of folders of images, a folder a label; features are made first",
        },
    },
}
"""Options of a command that take several values, or have another name than their argument."""


def run_light(command: str, argv: Sequence[str]) -> None:
    """Run a command without a model."""
    ignore_image_warnings()
    program = f"presel_lightning {command}"
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, prog=program)
    lists = LISTS.get(command, {})
    own = {details.get("dest", name.removeprefix("--")) for name, details in lists.items()}
    function = COMMANDS.get(command) or web_command(command)
    if command in WEB:
        parser.add_argument("--config", action="config", help="file of the options below")
        argv, _ = find_configs(argv)
    parser.add_function_arguments(function, skip=own)
    for name, details in lists.items():
        parser.add_argument(name, **details)
    try:
        options = parser.parse_args(list(argv)).as_dict()
    except ArgumentError as error:
        message = str(error)
        for name, details in lists.items():  # the option, not the argument that it fills
            message = message.replace(
                f'Parser key "{details.get("dest")}"', f'Parser key "{name.removeprefix("--")}"'
            )
        raise UserError(explain(message, list(parser.get_defaults().keys()))) from error
    with storing_anywhere(lambda: [Path.cwd(), Path(gettempdir())]):
        options.pop("config", None)
        function(**options)


def web_command(command: str) -> Callable[..., None]:
    """Return a command for web-scale pools; it is imported when it is used."""
    from presel_lightning.cli.web import COMMANDS as commands

    return commands[command]
