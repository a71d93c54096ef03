"""Dispatch of the export formats; torch is imported only for models."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from presel_lightning.console import quiet
from presel_lightning.errors import UserError
from presel_lightning.export.folder import refuse_existing
from presel_lightning.export.influence_space import export_influence_space
from presel_lightning.export.selection import (
    LEFT_OUT,
    TARGETS,
    UIDS,
    export_selection,
    make_target,
    summary,
)
from presel_lightning.run.files import read_json

PARTS = ("language_model", "vision_tower")
MODELS: dict[str, tuple[str, ...]] = {
    "hf": (),
    "adapter": (),
    "llava": PARTS,
    "llava-lora": PARTS,
}
"""Formats of the model, and the options of each."""
TREE = "influence-space"
"""Format of a whole run of `InfluenceSpace`."""


def export_run(run: str, to: str, path: str, **options: Any) -> str:  # noqa: ANN401
    """Write the final model or the selection of a run in another tool's format.

    Args:
        run: folder that `fit` or `select` wrote.
        to: one of `MODELS` or `TARGETS`.
        path: new folder.
        options: options of the format; None where not given.

    Returns:
        A summary line.

    Raises:
        UserError: an unknown format, an option of another format, or an error of the format.
    """
    if to not in MODELS and to not in TARGETS and to != TREE:
        known = (*TARGETS, TREE, *MODELS)
        near = get_close_matches(to, known, n=1)
        raise UserError(
            f"--to {to}: unknown; the selection: {', '.join((*TARGETS, TREE))}; "
            f"the final model: {', '.join(MODELS)}" + (f"; did you mean {near[0]}?" if near else "")
        )
    given = {name: value for name, value in options.items() if value is not None}
    if to == TREE and given:
        raise UserError(f"--{next(iter(given))}: not an option of --to {to}; leave it out")
    if to == TREE:
        return export_influence_space(Path(run), Path(path))
    known = MODELS[to] if to in MODELS else ("image_root", "uids", *TARGETS[to].options)
    if wrong := [f"--{name}" for name in given if name not in known]:
        raise UserError(f"{', '.join(wrong)}: not an option of --to {to}; leave it out")
    if to in MODELS:
        export_model(run, to, path, **given)
        return f"written: {path}"
    root = given.pop("image_root", None)
    uids = given.pop("uids", UIDS[0])
    target = make_target(to, given)
    count, left_out, images = export_selection(Path(run), target, Path(path), root, uids)
    note = f"; {summary(left_out)}: {Path(path) / LEFT_OUT}" if left_out else ""
    return f"written: {path}, {count} samples{note}" + (f"; {images}" if images else "")


def export_model(run: str, to: str, path: str, **parts: str) -> None:
    """Write the final model of a run.

    Raises:
        UserError: the run has none, or the format does not support it.
    """
    checkpoint = Path(run) / "models" / "final"
    if not checkpoint.is_dir():
        cure = "give a folder that `fit` wrote"
        if (Path(run) / "selection" / "selection.parquet").is_file():
            cure = (
                "`select` ends before the final fit: run `fit` with the same --out, or export the "
                f"selection ({', '.join(TARGETS)})"
            )
        raise UserError(f"--run {run}: no models/final there; {cure}")
    refuse_existing(path)  # before torch and the model are loaded
    quiet()
    if to == "hf":
        parts["template"] = template_of(Path(run))
    writer(to)(str(checkpoint), path, **parts)
    if is_finished(Path(run)):  # else its configuration may be that of a later `select`
        from presel_lightning.export.model_card import write_model_card

        write_model_card(Path(run), "final", Path(path), scored=True, exported_to=to)


def is_finished(run: Path) -> bool:
    """Return whether the last command of a run folder was a `fit` that has ended."""
    ledger, config = run / "run.json", run / "config.yaml"
    known = ledger.is_file() and config.is_file()
    return known and read_json(ledger).get("state") == "done"


def template_of(run: Path) -> str:
    """Return the `data.template` of a run; `auto` where its configuration is missing."""
    config = run / "config.yaml"
    data = yaml.safe_load(config.read_text(encoding="utf-8"))["data"] if config.is_file() else {}
    return str(data.get("template") or "auto")


def writer(to: str) -> Callable[..., Path]:
    """Return the function that writes a format of the model."""
    if to == "hf":
        from presel_lightning.export.hf import export_hf_merged

        return export_hf_merged
    if to == "adapter":
        from presel_lightning.export.adapter import export_adapter

        return export_adapter
    from functools import partial

    from presel_lightning.export.llava import export_llava

    return partial(export_llava, merged=to == "llava")
