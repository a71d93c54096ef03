"""An image-text model judges images with their captions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from presel_lightning.loading.judging import PIXELS, PREFIX, PROMPTS, SUFFIXES
from presel_lightning.models.fan_out import replies
from presel_lightning.models.forward import model_inputs
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.reader import Reader

Batch = dict[str, Any]


class Judge(Reader):
    """Replies to the prompts of all metrics, from one load of the weights.

    Args:
        tuned: the judge.
        stops: tokens that end a reply, besides those that the checkpoint names.
        max_new_tokens: tokens of a reply; "100" takes three where each digit is a token.

    Source: Wang et al., "Finetuned Multimodal Language Models Are High-Quality Image-Text Data
    Filters", arXiv 2403.02677.
    """

    def __init__(
        self, tuned: FineTune, stops: tuple[int, ...] = (), max_new_tokens: int = 4
    ) -> None:
        super().__init__(tuned)
        self.stops, self.max_new_tokens = stops, max_new_tokens

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, list[str]]:
        """Reply to a block of `Judging`: the text for each sample, by metric."""
        tuned, limit = self.tuned, self.max_new_tokens
        if PROMPTS in batch:
            asked = batch[PROMPTS]
            return {name: tuned.generate(b, limit, self.stops) for name, b in asked.items()}
        ends = tuned.ends(self.stops)
        pixels = model_inputs(self.model, {PIXELS: batch[PIXELS]})[PIXELS]
        found = replies(self.model, batch[PREFIX], pixels, batch[SUFFIXES], limit, ends)
        return {name: self.written(ids, ends) for name, ids in found.items()}

    def written(self, ids: Tensor, ends: list[int]) -> list[str]:
        """Texts of replies (B, T), each up to its end."""
        rows = ids.tolist()
        cut = [row[: next((i for i, t in enumerate(row) if t in ends), len(row))] for row in rows]
        texts = self.tuned.processor.tokenizer.batch_decode(cut, skip_special_tokens=True)
        return [text.strip() for text in texts]
