"""Weightings: rules that allocate a budget to tasks; one file each."""

from presel_lightning.selectors.part import part_of
from presel_lightning.selectors.weighting.base import (
    MeasuredWeighting,
    TaskFacts,
    Weighting,
    adjust,
)
from presel_lightning.selectors.weighting.headroom import Headroom
from presel_lightning.selectors.weighting.headroom_error import HeadroomError
from presel_lightning.selectors.weighting.irs import IRS
from presel_lightning.selectors.weighting.learning_curve import LearningCurve
from presel_lightning.selectors.weighting.size import Size
from presel_lightning.selectors.weighting.sqrt_size import SqrtSize
from presel_lightning.selectors.weighting.uniform import Uniform
from presel_lightning.selectors.weighting.visual_necessity import VisualNecessity

WEIGHTINGS: dict[str, type[Weighting]] = {
    "irs": IRS,
    "size": Size,
    "sqrt_size": SqrtSize,
    "uniform": Uniform,
    "headroom": Headroom,
    "headroom_error": HeadroomError,
    "learning_curve": LearningCurve,
    "visual_necessity": VisualNecessity,
}
"""Rules by their short name in a config."""


def weighting_of(given: Weighting | str) -> Weighting:
    """Return a rule as it is, or the one of a short name with its default options.

    Raises:
        UserError: the name is unknown.
    """
    return part_of(given, "weighting", WEIGHTINGS, Weighting)


__all__ = [
    "IRS",
    "WEIGHTINGS",
    "Headroom",
    "HeadroomError",
    "LearningCurve",
    "MeasuredWeighting",
    "Size",
    "SqrtSize",
    "TaskFacts",
    "Uniform",
    "VisualNecessity",
    "Weighting",
    "adjust",
    "weighting_of",
]
