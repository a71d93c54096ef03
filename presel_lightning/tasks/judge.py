"""An image-text model judges images with their captions."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from presel_lightning.functional.judge_score import LAST, branches, expected_number
from presel_lightning.loading.judging import PIXELS, PREFIX, PROMPTS, SUFFIXES
from presel_lightning.models.fan_out import next_tokens, next_tokens_whole, replies
from presel_lightning.models.forward import model_inputs
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.reader import Reader

Batch = dict[str, Any]
Reading = Literal["greedy", "expectation"]


class Judge(Reader):
    """Replies to the prompts of all metrics, from one load of the weights.

    Args:
        tuned: the judge.
        stops: tokens that end a reply, besides those that the checkpoint names.
        max_new_tokens: tokens of a reply; "100" takes three where each digit is a token.
        reading: `greedy` replies, or the `expectation` over the numbers that a reply may begin
            with.

    Source: Wang et al., "Finetuned Multimodal Language Models Are High-Quality Image-Text Data
    Filters", arXiv 2403.02677.
    """

    def __init__(
        self,
        tuned: FineTune,
        stops: tuple[int, ...] = (),
        max_new_tokens: int = 4,
        reading: Reading = "greedy",
    ) -> None:
        super().__init__(tuned)
        self.stops, self.max_new_tokens, self.reading = stops, max_new_tokens, reading

    def predict_step(
        self, batch: Batch, batch_idx: int
    ) -> dict[str, list[str]] | dict[str, Tensor]:
        """Rate a block of `Judging`: replies (B,), or expected scores (B,), by metric."""
        return self.replies(batch) if self.reading == "greedy" else self.expected(batch)

    def replies(self, batch: Batch) -> dict[str, list[str]]:
        """The text for each sample, by metric."""
        tuned, limit = self.tuned, self.max_new_tokens
        if PROMPTS in batch:
            asked = batch[PROMPTS]
            return {name: tuned.generate(b, limit, self.stops) for name, b in asked.items()}
        ends = tuned.ends(self.stops)
        pixels = model_inputs(self.model, {PIXELS: batch[PIXELS]})[PIXELS]
        found = replies(self.model, batch[PREFIX], pixels, batch[SUFFIXES], limit, ends)
        return {name: self.written(ids, ends) for name, ids in found.items()}

    def expected(self, batch: Batch) -> dict[str, Tensor]:
        """The expected score of each sample, by metric."""
        numbers = self.numbers
        paths = list(branches(list(numbers.values())))
        if PROMPTS in batch:
            behind = {
                name: next_tokens_whole(self.model, model_inputs(self.model, asked), paths)
                for name, asked in batch[PROMPTS].items()
            }
        else:
            pixels = model_inputs(self.model, {PIXELS: batch[PIXELS]})[PIXELS]
            behind = next_tokens(self.model, batch[PREFIX], pixels, batch[SUFFIXES], paths)
        return {name: expected_number(numbers, found) for name, found in behind.items()}

    @cached_property
    def numbers(self) -> dict[int, tuple[int, ...]]:
        """Tokens of the numbers of the scale, as the judge's tokenizer writes them."""
        tokenizer = self.tuned.processor.tokenizer
        return {
            number: tuple(tokenizer(str(number), add_special_tokens=False)["input_ids"])
            for number in range(LAST + 1)
        }

    def written(self, ids: Tensor, ends: list[int]) -> list[str]:
        """Texts of replies (B, T), each up to its end."""
        rows = ids.tolist()
        cut = [row[: next((i for i, t in enumerate(row) if t in ends), len(row))] for row in rows]
        texts = self.tuned.processor.tokenizer.batch_decode(cut, skip_special_tokens=True)
        return [text.strip() for text in texts]
