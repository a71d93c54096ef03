"""What makes each signal; one file a signal, and a line here."""

from presel_lightning.recipe.passes.answer_validity import (
    AnswerValidityPass as AnswerValidityPass,
)
from presel_lightning.recipe.passes.base import ModelPass as ModelPass
from presel_lightning.recipe.passes.base import Pass as Pass
from presel_lightning.recipe.passes.clip_similarity import (
    ClipSimilarityPass as ClipSimilarityPass,
)
from presel_lightning.recipe.passes.features import FeaturesPass as FeaturesPass
from presel_lightning.recipe.passes.gradients import GradientsPass as GradientsPass
from presel_lightning.recipe.passes.head_gradients import (
    HeadGradientsPass as HeadGradientsPass,
)
from presel_lightning.recipe.passes.held_out_loss import HeldOutLossPass as HeldOutLossPass
from presel_lightning.recipe.passes.hidden_states import HiddenStatesPass as HiddenStatesPass
from presel_lightning.recipe.passes.layer_features import LayerFeaturesPass as LayerFeaturesPass
from presel_lightning.recipe.passes.pair_gradients import (
    PairGradientsPass as PairGradientsPass,
)
from presel_lightning.recipe.passes.paired_loss import PairedLossPass as PairedLossPass
from presel_lightning.recipe.passes.reference_hidden_states import (
    ReferenceHiddenStatesPass as ReferenceHiddenStatesPass,
)
from presel_lightning.recipe.passes.text_loss import TextLossPass as TextLossPass
from presel_lightning.recipe.passes.token_loss import TokenLossPass as TokenLossPass
from presel_lightning.recipe.passes.visual_tokens import VisualTokensPass as VisualTokensPass
