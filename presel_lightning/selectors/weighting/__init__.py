"""Rules that divide a budget among tasks; one file each."""

from presel_lightning.errors import UserError
from presel_lightning.selectors.weighting.base import TaskFacts, Weighting, adjust
from presel_lightning.selectors.weighting.headroom import Headroom
from presel_lightning.selectors.weighting.headroom_error import HeadroomError
from presel_lightning.selectors.weighting.irs import IRS
from presel_lightning.selectors.weighting.learning_curve import LearningCurve
from presel_lightning.selectors.weighting.size import Size
from presel_lightning.selectors.weighting.sqrt_size import SqrtSize
from presel_lightning.selectors.weighting.uniform import Uniform

WEIGHTINGS: dict[str, type[Weighting]] = {
    "irs": IRS,
    "size": Size,
    "sqrt_size": SqrtSize,
    "uniform": Uniform,
    "headroom": Headroom,
    "headroom_error": HeadroomError,
    "learning_curve": LearningCurve,
}
"""Rules by the name that a configuration gives them."""


def weighting_of(name: str) -> type[Weighting]:
    """Find a rule by its name.

    Raises:
        UserError: there is none.
    """
    if name not in WEIGHTINGS:
        raise UserError(f"weighting {name!r} is unknown; choose of {', '.join(WEIGHTINGS)}")
    return WEIGHTINGS[name]


__all__ = ["WEIGHTINGS", "TaskFacts", "Weighting", "adjust", "weighting_of"]
