"""Export of the selection in the formats of other tools: one file per format, and a line here.

Nothing here imports torch.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from presel_lightning.console import track
from presel_lightning.data.run_images import image_resolver, pixels_of
from presel_lightning.errors import UserError
from presel_lightning.export.folder import new_folder
from presel_lightning.export.selection.contact_sheets import ContactSheets
from presel_lightning.export.selection.hf_dataset import HfDataset
from presel_lightning.export.selection.images import Images
from presel_lightning.export.selection.llama_factory import LlamaFactory
from presel_lightning.export.selection.llava import LlavaJson
from presel_lightning.export.selection.ms_swift import MsSwift
from presel_lightning.export.selection.source import LeftOut, SelectedSamples, selection_table
from presel_lightning.export.selection.table import Csv, Npy
from presel_lightning.export.selection.target import Target
from presel_lightning.export.selection.trl import Trl
from presel_lightning.export.selection.webdataset import WebDataset

TARGETS: dict[str, type[Target]] = {
    "llava-json": LlavaJson,
    "llama-factory": LlamaFactory,
    "ms-swift": MsSwift,
    "trl": Trl,
    "hf-dataset": HfDataset,
    "images": Images,
    "contact-sheets": ContactSheets,
    "webdataset": WebDataset,
    "npy": Npy,
    "csv": Csv,
}

UIDS = ("presel", "own")
"""Whose uids name the samples of an export: ours, or those that the records brought."""
LEFT_OUT = "left_out.csv"
"""File in an export that lists the selected samples that it does not hold."""


def export_selection(
    run: Path, target: Target, path: Path, root: str | None = None, uids: str = "presel"
) -> tuple[int, list[LeftOut], str]:
    """Write reference and selected samples of a run for another tool.

    Args:
        run: folder that `fit` or `select` wrote.
        target: format, with its options.
        path: new folder.
        root: folder that image paths are relative to; by default that of the run.
        uids: `own` names samples by the `uid` of their records, where these bring one.

    Returns:
        The number of samples written, the samples left out, and a note on the images that other
        tools would read otherwise than the run; empty without any.

    Raises:
        UserError: there is no selection, none of it can be exported, or `path` exists.
    """
    if uids not in UIDS:
        raise UserError(f"--uids {uids}: unknown; choose from {', '.join(UIDS)}")
    total = len(selection_table(run))
    samples = SelectedSamples(
        run,
        image_resolver(run, root),
        pixels_of(run),
        target.needs_instruction,
        target.needs_image,
        target.placeholders,
        own_uids=uids == "own",
    )
    with new_folder(path) as folder:
        target.write(track(samples, "exporting", total), folder, path.resolve())
        if samples.left_out:
            write_left_out(folder / LEFT_OUT, samples.left_out)
        if len(samples.left_out) == total:
            raise UserError(f"--run {run}: nothing to export: {summary(samples.left_out)}")
    return total - len(samples.left_out), samples.left_out, note(samples, target.rewrites)


def note(samples: SelectedSamples, rewritten: bool) -> str:
    """Say what became of the images that other tools would read otherwise than the run."""
    if not samples.unlike:
        return ""
    if rewritten:
        return f"{samples.unlike} images written as PNG with the pixels of the run"
    return (
        f"{samples.unlike} images are read otherwise, or not at all, by tools that ignore EXIF "
        "orientation, transparency or depth, or know no HEIC or AVIF; --images copy writes them with "
        "the pixels of the run"
    )


def write_left_out(path: Path, left_out: list[LeftOut]) -> None:
    """Write the samples left out, with the reasons, one per row."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([field.name for field in fields(LeftOut)])
        writer.writerows(astuple(each) for each in left_out)


def summary(left_out: list[LeftOut]) -> str:
    """Summarize the samples left out, by reason."""
    kinds = Counter(each.problem for each in left_out)
    return f"{len(left_out)} left out ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})"


def make_target(name: str, options: dict[str, Any]) -> Target:
    """Build a format with the given options, and defaults for the others."""
    return TARGETS[name](**options)
