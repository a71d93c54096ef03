"""Filters of web-scale pools: rules over metadata, one a file, and sets of uids; no torch."""

from __future__ import annotations

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
from presel_lightning.filters.registry import RULES
from presel_lightning.filters.rule import Rule
from presel_lightning.filters.text_based import TextBased

__all__ = [
    "RULES",
    "All",
    "Any",
    "BasicFilter",
    "CaptionQuality",
    "ClipScore",
    "ImageBased",
    "InUids",
    "Laion2B",
    "MlmFilter",
    "NoFilter",
    "Not",
    "OpenQwen2VLBasic",
    "Rule",
    "TextBased",
]
