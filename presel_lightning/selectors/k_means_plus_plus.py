"""k-means++ coreset: images far from those drawn before are likelier."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from presel_lightning.functional.d2_sampling import d2_sample
from presel_lightning.functional.farthest import Farthest
from presel_lightning.selectors.coverage import CoverageSelector
from presel_lightning.signals import Features


class KMeansPlusPlus(CoverageSelector):
    r"""Draw, one after another, an image by its squared distance to the nearest drawn one.

    .. math:: P(i) = \frac{D(i)^2}{\sum_j D(j)^2}, \quad D(i) = \min_{j \in s} \lVert x_i - x_j \rVert_2

    The reference split counts as drawn. Where `KCenter` takes the farthest image, and so outliers
    first, a dense region with many images has a chance here. The score is the distance to the nearest
    selected image: of a selected one when it was drawn, of the others at the end.

    Budget: over the whole pool; tasks are ignored.

    Cost: O(N · (budget + reference) · D). The features of all images are in memory.

    Args:
        embedding: `image`, features of the image encoder; or `joint`, image and text of the image-text
            encoder, which needs the instructions of the whole pool. None for `joint` where `two_tower`
            is set, else `image`.

    Raises:
        UserError: `embedding` is unknown.

    Source: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007; as a
    baseline of InfluenceSpace.
    """

    needs: ClassVar[tuple[str, ...]] = (Features.name,)
    reason = "drawn by its distance to those before"

    def pick(self, features: Tensor, count: int, selected: Tensor, seed: int) -> Farthest:
        """Draw by squared distance."""
        return d2_sample(features, count, selected, seed=seed)
