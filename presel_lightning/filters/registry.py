"""Rules by the names that they have in a config."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any as Value

from presel_lightning.filters.basic_filter import BasicFilter
from presel_lightning.filters.caption_quality import CaptionQuality
from presel_lightning.filters.clip_score import ClipScore
from presel_lightning.filters.combine import All, Any, Not
from presel_lightning.filters.image_based import ImageBased
from presel_lightning.filters.in_uids import InUids
from presel_lightning.filters.laion2b import Laion2B
from presel_lightning.filters.mlm_filter import MlmFilter
from presel_lightning.filters.no_filter import NoFilter
from presel_lightning.filters.open_qwen2vl_basic import OpenQwen2VLBasic
from presel_lightning.filters.rule import Rule
from presel_lightning.filters.text_based import TextBased

RULES: dict[str, type[Rule]] = {
    "no_filter": NoFilter,
    "basic_filter": BasicFilter,
    "clip_score": ClipScore,
    "laion2b": Laion2B,
    "text_based": TextBased,
    "image_based": ImageBased,
    "open_qwen2vl_basic": OpenQwen2VLBasic,
    "mlm_filter": MlmFilter,
    "caption_quality": CaptionQuality,
    "uids": InUids,
}


def described(rule: Rule) -> dict[str, Value]:
    """A rule as a config has it, with all of its options."""
    if isinstance(rule, Not):
        return {"not": described(rule.rule)}
    if isinstance(rule, All | Any):
        return {type(rule).__name__.lower(): [described(part) for part in rule.rules]}
    name = next(name for name, kind in RULES.items() if kind is type(rule))
    return {name: asdict(rule)}  # type: ignore[call-overload]


def label(rule: Rule) -> str:
    """A rule in a few words, for the console."""
    if isinstance(rule, Not):
        return f"not {label(rule.rule)}"
    if isinstance(rule, All | Any):
        return f"{type(rule).__name__.lower()}({', '.join(map(label, rule.rules))})"
    return next(name for name, kind in RULES.items() if kind is type(rule))
