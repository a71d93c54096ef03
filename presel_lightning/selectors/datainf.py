"""DataInf (ICLR 2024): the samples whose gradients lower the validation loss most."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from presel_lightning.data.pool import Pool
from presel_lightning.errors import UserError
from presel_lightning.functional import influence
from presel_lightning.run.ranges import Positive
from presel_lightning.selectors.by_score import ScoreSelector
from presel_lightning.selectors.gradients import GradientSelector, Loss, read_gradients
from presel_lightning.signals import Gradients, Signals

Estimator = Literal["datainf", "identity", "lissa", "exact-sketch"]


class DataInf(GradientSelector, ScoreSelector):
    r"""Select the highest utility on the validation loss, by the gradients of the adapters.

    .. math:: U_i = + \sum_l \langle (\hat{H}_l + \lambda_l)^{-1} v_l, g_{il} \rangle

    with v the mean gradient of the validation set (`validation`, by default the reference split), l the
    decoder layers, and :math:`\lambda_l` a tenth of the mean square of a gradient's entries. It is minus
    the influence of the paper, where low is kept: higher is better here.

    Needs the instructions of the whole pool. Budget: over the whole pool; tasks are ignored.

    Differences to the paper: gradients are sketches of a decoder layer each rather than of a matrix,
    so that they fit on disk; the mean over all validation samples stands for each of them; LiSSA has
    the right sign of the damping, and a rate under which it converges.

    Args:
        estimator: of the inverse: `datainf` (closed form), `identity` (none), `lissa` (10 iterations), or
            `exact-sketch` (a solve in the sketch; squared width of a layer in memory).
        damping: of the inverse, in units of the mean square of a gradient's entries.
        loss: of whose gradients: that of the `answer`, or the `contrastive` loss of an image-text pair;
            null for `contrastive` where `two_tower` is set, else `answer`.

    Raises:
        UserError: the estimator or the loss is unknown.

    Source: Kwon, Wu, Wu, Zou, "DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and
    Diffusion Models", ICLR 2024.
    """

    needs: ClassVar[tuple[str, ...]] = (Gradients.name,)
    reason = "lowers the validation loss"

    def __init__(
        self,
        estimator: Estimator = "datainf",
        damping: Positive = influence.DAMPING,
        loss: Loss | None = None,
    ) -> None:
        if estimator not in influence.ESTIMATORS:
            raise UserError(
                f"selector.init_args.estimator {estimator!r} is unknown; choose from "
                f"{', '.join(influence.ESTIMATORS)}"
            )
        self.estimator, self.damping = estimator, damping
        super().__init__(loss)

    def score(self, pool: Pool, signals: Signals, *, seed: int) -> np.ndarray:
        """Compute the utilities; the seed is not used."""
        read = read_gradients(pool, signals, self.kind)
        damping = influence.damping_of(read.gradients, self.damping)
        wanted = influence.mean_gradient(read.validation)
        direction = influence.ESTIMATORS[self.estimator](read.gradients, wanted, damping)
        return read.scores(pool, influence.utilities(read.gradients, direction))
