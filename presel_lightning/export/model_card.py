"""The model card of a tuned model, from the files of its run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from presel_lightning.models.components import looks_like_hub_id
from presel_lightning.models.content import CARD
from presel_lightning.models.licenses import license_of
from presel_lightning.run.files import read_json, write_text

Json = dict[str, Any]

PARTS = ("language_model", "vision_tower", "projector")

FINETUNE = """\
from presel_lightning.tasks import FineTune

model = FineTune(".", tune="none")  # this folder
model.configure_model()
"""
PROBE = """\
from presel_lightning.tasks import TwoTower

model = TwoTower.load(".")  # this folder
"""
TRANSFORMERS = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(".")  # this folder
processor = AutoProcessor.from_pretrained(".", backend="pil")
"""
PEFT = """\
from peft import PeftConfig, PeftModel
from transformers import AutoModelForImageTextToText

base = PeftConfig.from_pretrained(".").base_model_name_or_path  # this folder
model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), ".")
"""
LOADING = {"hf": TRANSFORMERS, "adapter": PEFT}
"""Code that loads an export, by its format; the layouts of LLaVA are read by its own code."""


def write_model_card(
    run: Path,
    arm: str,
    folder: Path,
    *,
    stage: str = "final",
    scored: bool = False,
    exported_to: str | None = None,
) -> None:
    """Write the card of one model of a run; facts that are missing in its files are left out.

    Args:
        run: the run folder.
        arm: name of the model, as in `models/ARM`.
        folder: where it lies, or was exported to.
        stage: stage of the configuration that it was fitted with, `reference` or `final`.
        scored: whether `report/report.json` has scores of this model.
        exported_to: format of the export.
    """
    ledger = read_json(run / "run.json")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    settings = settings_of(config, stage)
    report = run / "report" / "report.json"
    figures = read_json(report) if scored and report.is_file() else {}
    licenses = {part: license_of(part) for part in settings["parts"]}
    sections = [
        heading(arm, ledger, settings),
        loading(folder, exported_to),
        data(arm, ledger, config),
        selection(arm, ledger, config),
        training(ledger["stages"].get(arm, {}), config, settings),
        scores(arm, ledger, figures),
        list_of("Licenses", {shown(part): found or "unknown" for part, found in licenses.items()}),
        list_of("Versions", ledger.get("versions", {})),
    ]
    front = metadata(folder, settings, licenses).to_yaml()
    write_text(folder / CARD, f"---\n{front}\n---\n\n" + "\n".join(filter(None, sections)))


def settings_of(config: Json, stage: str) -> Json:
    """Return the settings of a fit: `model`, `trainer`, and `parts`, the names of its checkpoints."""
    own = (config.get("stages") or {}).get(stage) or {}
    merged = {
        section: {**(config.get(section) or {}), **(own.get(section) or {})}
        for section in ("model", "trainer")
    }
    model, pairs = merged["model"], config.get("two_tower")
    if pairs is not None:
        similarity = (config.get("stages") or {}).get("similarity") or {}
        parts = [(similarity.get("model") or {}).get("checkpoint")]
    elif components := model.get("components"):
        parts = [components.get(part) for part in PARTS]
    else:
        parts = [model.get("checkpoint")]
    return {**merged, "pairs": pairs, "parts": list(filter(None, parts))}


def metadata(folder: Path, settings: Json, licenses: Mapping[str, str | None]) -> ModelCardData:
    """Build the front matter: base models of the hub, a license that all parts share, library, tags."""
    bases = [part for part in settings["parts"] if is_on_hub(part)]
    known = set(licenses.values())
    adapter = (folder / "adapter_config.json").is_file()
    pairs = settings["pairs"] is not None
    library = "presel-lightning" if pairs else "peft" if adapter else "transformers"
    return ModelCardData(
        base_model=bases[0] if len(bases) == 1 else bases or None,
        license=known.pop() if len(known) == 1 else None,
        library_name=library,
        pipeline_tag=None if pairs else "image-text-to-text",
        tags=["presel-lightning", "data-selection", *(["lora"] if adapter else [])],
    )


def heading(arm: str, ledger: Json, settings: Json) -> str:
    """Return title and first paragraph."""
    parts = ", ".join(shown(part) for part in settings["parts"])
    kinds = {
        "final": f"what {ledger.get('selector')} selected",
        "random": "a random sample of the pool",
        "full": "the whole pool",
        "reference": "the reference split",
    }
    subject = f"Two-tower probe on {parts}" if settings["pairs"] is not None else parts
    trained = f"{subject}, tuned on {kinds.get(arm, 'samples of the pool')}"
    version = ledger.get("versions", {}).get("presel_lightning", "of an unknown version")
    return f"# {trained}\n\nThe model `{arm}` of a run of presel_lightning {version}.\n"


def loading(folder: Path, exported_to: str | None) -> str:
    """Return the code that loads the model."""
    own = PROBE if (folder / "two_tower.json").is_file() else FINETUNE
    code = own if exported_to is None else LOADING.get(exported_to)
    if code is None:
        return "## How to load it\n\nBy LLaVA's own code, whose layout this is.\n"
    return f"## How to load it\n\n```python\n{code}```\n"


def data(arm: str, ledger: Json, config: Json) -> str:
    """Return what the pool held, what was left out and why, and how much of it was trained on."""
    stages = ledger["stages"]
    pool, fit = stages.get("pool", {}), stages.get(arm, {})
    given = config["data"].get("annotations") or list(
        (config["data"].get("task_files") or {}).values()
    )
    files = [given] if isinstance(given, str) else given
    reasons = ", ".join(f"{n} {kind}" for kind, n in pool.get("by_problem", {}).items())
    left_out = f"{pool.get('problems')} ({reasons})" if reasons else pool.get("problems")
    return list_of(
        "Data",
        {
            "annotations": ", ".join(Path(file).name for file in files),
            "samples of the pool": pool.get("samples"),
            "records left out": left_out,
            "text-only records": pool.get("text_only"),
            "samples trained on": fit.get("samples"),
            "text-only records trained on": fit.get("text_only"),
            "samples without an answer token": fit.get("without_answer"),
        },
    )


def selection(arm: str, ledger: Json, config: Json) -> str:
    """Return how the samples were selected."""
    counts, seed = ledger.get("counts", {}), ledger.get("seed")
    if arm == "full":
        return list_of("Selection", {"samples": "all of the pool"})
    if arm == "random":
        return list_of("Selection", {"samples": "a random sample of the pool", "seed": seed})
    if arm == "reference":
        split = "the reference split, a random sample of every task"
        return list_of("Selection", {"samples": split, "seed": seed})
    if arm != "final":
        return ""
    selector = config["selector"]
    options = yaml.safe_dump(selector.get("init_args") or {}, sort_keys=False)
    facts = {
        "selector": f"`{selector['class_path']}`",
        "data.budget": config["data"].get("budget"),
        "of the reference split, at random": counts.get("reference"),
        "added by the selector": counts.get("selected"),
        "seed": seed,
    }
    return f"{list_of('Selection', facts)}\n```yaml\n{options}```\n"


def training(fit: Json, config: Json, settings: Json) -> str:
    """Return the hyper-parameters, and what the fit took."""
    model, trainer = settings["model"], settings["trainer"]
    if settings["pairs"] is not None:
        chosen: Json = {**settings["pairs"], "test": None}  # a path of this machine
    else:
        names = ("tune", "lr", "projector_lr", "weight_decay", "betas", "warmup", "dtype")
        chosen = {name: model.get(name) for name in (*names, "quantization", "loss_reduction")}
        if model.get("tune") == "lora":
            chosen |= {f"lora.{name}": value for name, value in (model.get("lora") or {}).items()}
        own = ("template", "max_length", "batch_size", "weights", "packing", "pixels")
        chosen |= {f"data.{name}": config["data"].get(name) for name in own}
    epochs = ("max_epochs",) if settings["pairs"] is None else ()
    limits = (*epochs, "max_steps", "max_time", "precision", "gradient_clip_val")
    set_limits = {name: trainer.get(name) for name in limits if trainer.get(name) != -1}  # -1: none
    chosen |= {f"trainer.{name}": value for name, value in set_limits.items()}
    took = {
        "steps": fit.get("steps"),
        "last training loss": fit.get("loss_last"),
        "cut short": fit.get("cut_short"),
        "seconds": fit.get("fit_seconds"),
        "devices": f"{fit['devices']} {fit['device']}" if "devices" in fit else None,
    }
    return list_of("Training", {**chosen, **took})


def scores(arm: str, ledger: Json, figures: Json) -> str:
    """Return the arm's scores with intervals over the test items, beside those of the other arms."""
    rows: Sequence[Json] = figures.get("arms", [])
    own = next((row for row in rows if row["arm"] == arm), None)
    if own is None or not any(score is not None for score in own["scores"].values()):
        return ""
    others = [row for row in rows if row is not own]
    lines = [["benchmark", arm, "95 % interval", "test items", *(row["arm"] for row in others)]]
    for name, score in own["scores"].items():
        low_high = own.get("intervals", {}).get(name)
        interval = f"{low_high[0]:.1f} to {low_high[1]:.1f}" if low_high else ""
        items = str(figures.get("test_items", {}).get(name, ""))
        rest = [number(row["scores"].get(name)) for row in others]
        lines.append([name, number(score), interval, items, *rest])
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    rule = f"|{'---|' * len(lines[0])}"
    note = (
        f"One fit of each model, seed {ledger.get('seed')}. Intervals are a bootstrap over the test items; they "
        "do not cover other seeds."
    )
    return "\n".join(["## Scores\n", head, rule, *body, "", note, ""])


def list_of(title: str, facts: Mapping[str, Any]) -> str:
    """Return a section with a line for each fact that is known; empty where none is."""
    known = {name: value for name, value in facts.items() if value not in (None, "")}
    lines = [
        f"- {name}: {str(value).lower() if isinstance(value, bool) else value}"
        for name, value in known.items()
    ]
    return "\n".join([f"## {title}\n", *lines, ""]) if lines else ""


def number(score: float | None) -> str:
    """Format a score; empty where there is none."""
    return "" if score is None else f"{score:.2f}"


def shown(name: str) -> str:
    """Return a checkpoint's name without the folders of this machine."""
    return name if is_on_hub(name) else Path(name).name


def is_on_hub(name: str) -> bool:
    """Return whether a name is a hub id rather than a folder here or a shipped model."""
    return looks_like_hub_id(name) and not Path(name).expanduser().exists()


def write_cards(run: Path, arms: Iterable[str]) -> None:
    """Write the cards of scored models again, with their scores."""
    for arm in arms:
        folder = run / "models" / arm
        if folder.is_dir():
            write_model_card(run, arm, folder, scored=True)
