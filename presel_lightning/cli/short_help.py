"""`--help` of a training command: the keys in daily use, without an import of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ALL = "all"
"""Word after `--help` for every key."""


@dataclass(frozen=True)
class Key:
    """A key that people use.

    Attributes:
        name: the option without its dashes.
        default: its value if it is not given; a class by its name.
        text: what it is, in some words.
        commands: commands that use it; empty for all.
    """

    name: str
    default: Any
    text: str
    commands: tuple[str, ...] = ()


COMPARING = ("compare", "validate")

KEYS: dict[str, tuple[Key, ...]] = {
    "run": (
        Key("config", None, "file or name of a shipped config; several are merged in order"),
        Key("out", None, "run folder; runs/ and the name of the config by default"),
        Key("seed_everything", 0, "seed of every random draw"),
        Key("threads", None, "CPU threads of torch per process"),
        Key("signals", [], "signals to make, such as features", ("prepare",)),
        Key("checkpoint_every", 100, "steps between checkpoints of a fit", ("fit", "compare")),
    ),
    "pool": (
        Key("data.annotations", "quickstart", "LLaVA JSON, CSV, folders of images, datasets, tars"),
        Key("data.image_root", None, "folder of the images; that of the annotations by default"),
        Key("data.task_key", "task", "field that names a record's task"),
        Key("data.exclude", None, "CSV with a column uid, or a uid a line: left out of the pool"),
        Key("data.num_workers", 4, "processes that decode images, for each device"),
    ),
    "selection": (
        Key("selector", "PreSel", "class or short name; --selector.help NAME lists its options"),
        Key("data.budget", 0.15, "whole selection: a fraction, or a count from 2"),
        Key("data.reference", 0.05, "reference split, part of the budget"),
        Key("annotator", None, "source of missing instructions; --annotator.help lists them"),
        Key("stages.features.model", {}, "options of the image encoder: {checkpoint: auto}"),
    ),
    "training": (
        Key("model.checkpoint", None, "pre-instruction model: a folder or hub id"),
        Key("model.tune", "lora", "lora, full or none"),
        Key("model.lora.r", 128, "rank of the adapters"),
        Key("model.lr", 2e-4, "learning rate of all but the projector"),
        Key("model.projector_lr", 2e-5, "learning rate of the projector"),
        Key("model.dtype", "auto", "number format of the frozen weights"),
        Key("data.template", "auto", "conversation template"),
        Key("data.max_length", 2048, "tokens of a sample, image included"),
        Key("data.batch_size", 128, "samples of a step, over all devices"),
        Key("data.micro_batch_size", None, "samples of a forward pass, on each device"),
        Key("trainer.max_epochs", 1, "epochs of a fit"),
        Key("trainer.accelerator", "auto", "cpu, gpu or auto"),
        Key("trainer.devices", "auto", "number of devices, or their indices"),
        Key("trainer.precision", None, "such as bf16-mixed"),
        Key("trainer.strategy", "auto", "ddp, fsdp, deepspeed and others"),
    ),
    "scores": (
        Key("benchmarks", [], "benchmarks of every arm; --benchmarks.help lists them"),
        Key("baselines", [], "arms beside the final one: untrained random full", ("fit",)),
        Key("checkpoint", None, "model to score", ("evaluate",)),
    ),
    "grid": (
        Key("selectors", ["PreSel", "Random"], "selectors to compare", COMPARING),
        Key("budgets", [], "values of data.budget; its value by default", ("compare",)),
        Key("seeds", [0, 1, 2], "seeds of split, random selection and training", ("compare",)),
        Key("workers", None, "parallel fits; as many as fit by default", ("compare",)),
        Key("subsets", 20, "random subsets that are trained on", ("validate",)),
    ),
    "check": (
        Key("check_records", 2000, "records to tokenize", ("check",)),
        Key("probe", "auto", "measure some steps of training; auto: on a GPU", ("check",)),
        Key("against", [], "benchmarks whose images and questions are searched for", ("check",)),
    ),
}
"""The keys in daily use, by group; a test holds them against the parser."""


def keys_of(command: str) -> dict[str, list[Key]]:
    """Return the keys that a command uses, by group."""
    found = {
        group: [key for key in keys if command in (key.commands or (command,))]
        for group, keys in KEYS.items()
    }
    return {group: keys for group, keys in found.items() if keys}


def asked_for(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return which help is asked for, `short`, `all` or none (empty), and what the parser is to read.

    Example:
        >>> asked_for(["--config", "photos.yaml", "--help", "all"])
        ('all', ['--config', 'photos.yaml', '--help'])
    """
    for place, word in enumerate(words):
        if word in ("-h", "--help") and words[place + 1 : place + 2] == [ALL]:
            return ALL, [*words[: place + 1], *words[place + 2 :]]
        if word == f"--help={ALL}":
            return ALL, [*words[:place], "--help", *words[place + 1 :]]
        if word in ("-h", "--help"):
            return "short", list(words)
    return "", list(words)


def short_help(command: str) -> str:
    """Return the help text: a line a key, with its default in brackets."""
    lines = [f"usage: presel_lightning {command} --config FILE [--any.key VALUE ...]"]
    for group, keys in keys_of(command).items():
        lines += ["", f"{group}:"]
        for key in keys:
            shown = "" if key.default in (None, [], {}) else f" [{_shown(key.default)}]"
            lines.append(f"  --{key.name:<22} {key.text}{shown}")
    return "\n".join([*lines, "", f"Every key: presel_lightning {command} --help {ALL}"])


def _shown(default: Any) -> str:  # noqa: ANN401 - of any key
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)
