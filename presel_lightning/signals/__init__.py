"""Per-sample signals that selectors read from disk; one file per signal, and a line here."""

from presel_lightning.signals.answer_validity import AnswerValidity as AnswerValidity
from presel_lightning.signals.base import ColumnSignal as ColumnSignal
from presel_lightning.signals.base import Signal as Signal
from presel_lightning.signals.base import Signals as Signals
from presel_lightning.signals.clip_similarity import ClipSimilarity as ClipSimilarity
from presel_lightning.signals.features import Features as Features
from presel_lightning.signals.gradients import Gradients as Gradients
from presel_lightning.signals.head_gradients import HeadGradients as HeadGradients
from presel_lightning.signals.held_out_loss import HeldOutLoss as HeldOutLoss
from presel_lightning.signals.hidden_states import HiddenStates as HiddenStates
from presel_lightning.signals.layer_features import LayerFeatures as LayerFeatures
from presel_lightning.signals.pair_gradients import PairGradients as PairGradients
from presel_lightning.signals.paired_loss import PairedLoss as PairedLoss
from presel_lightning.signals.reference_hidden_states import (
    ReferenceHiddenStates as ReferenceHiddenStates,
)
from presel_lightning.signals.text_loss import TextLoss as TextLoss
from presel_lightning.signals.token_loss import TokenLoss as TokenLoss
from presel_lightning.signals.visual_tokens import VisualTokens as VisualTokens

__all__ = ["Signal", "Signals"]
