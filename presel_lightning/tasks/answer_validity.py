"""Ask a model whether an answer is right, with its question and without."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor

from presel_lightning.models.forward import hidden_states, model_inputs
from presel_lightning.models.vocabulary import without_added
from presel_lightning.tasks.reader import Reader

Batch = dict[str, Any]
YES, NO = ("Yes", "yes"), ("No", "no")


class Validity(Reader):
    """The columns of the signal `answer_validity`, from one batch of `ValiditySet`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the probability of yes, of yes and no, for both questions of each sample."""
        sides = ("with_question", "without_question")
        return {side: self.chance_of_yes(batch[side]) for side in sides}

    def chance_of_yes(self, prompts: Batch) -> Tensor:
        """Probability of yes as the first token of the reply to left-padded prompts, (B,)."""
        hidden = hidden_states(self.model, model_inputs(self.model, prompts))[:, -1]
        logits = without_added(self.model, self.model.get_output_embeddings()(hidden)).float()
        yes, no = self.tokens
        chances = logits[:, [*yes, *no]].softmax(dim=1)
        return chances[:, : len(yes)].sum(dim=1)

    @cached_property
    def tokens(self) -> tuple[list[int], list[int]]:
        """Tokens that a reply of yes begins with, and those of no."""
        yes, no = (
            {self.first_token(text) for word in words for text in (word, f" {word}")}
            for words in (YES, NO)
        )
        both = yes & no  # such as a blank
        return sorted(yes - both), sorted(no - both)

    def first_token(self, text: str) -> int:
        """First token of a text."""
        ids = self.tuned.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return int(ids[0])
