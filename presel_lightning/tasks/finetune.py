"""Fine-tune an image-text model on instructions: the reference and the final model alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from presel_lightning.console import console
from presel_lightning.errors import UserError
from presel_lightning.functional.token_loss import (
    sample_losses,
    teacher_forced_match,
    weighted_total,
)
from presel_lightning.loading.encoder import SIDES, TEXT
from presel_lightning.models import (
    Components,
    LoRA,
    Quantization,
    describe_checkpoint,
    load_model,
    processor_of,
    save_model,
)
from presel_lightning.models.aspect import Aspect
from presel_lightning.models.forward import answer_logits, answer_losses, model_inputs
from presel_lightning.models.llava import trained_state, unwrapped
from presel_lightning.models.packed import require_packable
from presel_lightning.models.paired import one_prefix, two_passes, why_not_shared
from presel_lightning.models.parallel import is_sharded, shard_model, whole_state
from presel_lightning.models.parts import is_projector
from presel_lightning.run.ranges import Fraction, NonNegative, ProperFraction
from presel_lightning.run.ranks import rank_zero

Batch = dict[str, Any]

NO_IMAGE = (*SIDES, TEXT, "first", "prefix")
"""Entries of a batch of pairs that are not the images."""


class FineTune(LightningModule):
    """Instruction tuning, by LoRA or whole, as LLaVA-1.5's second stage does it.

    Any image-text model of transformers with a processor and a chat template of its own is tuned
    alike; LLaVA-1.5 alone reads an image once for both losses of the IRS.

    The training loss is summed over the global batch and divided by the global number of answer
    tokens, so that a result does not depend on how many devices share the batch. For samples i of
    weight w_i (`Selection.weights`, 1 by default) with n_i answer tokens t it is

        sum_i w_i * sum_t CE_it / sum_i w_i * n_i

    with both sums over the global batch. `loss_reduction: per_device` takes this quotient over the
    rows of each forward pass of each device, and averages these; the rows of a pass are drawn as
    LLaVA draws them (`even_chunks`).

    Args:
        checkpoint: folder or hub id of the pre-instruction model in transformers format, a folder
            that this class saved, or `quickstart`.
        components: the published parts of LLaVA-1.5, instead of a checkpoint: language model,
            vision tower and pre-trained projector. They are put together once.
        aspect: how a LLaVA-1.5 makes an image square: `pad` with the mean color, or cut a `square`
            out of its middle; null as the checkpoint says. `stages.losses.model.aspect` sets it for
            the losses alone.
        tune: `lora` (adapters and projector), `full` (all but the vision tower), `none`.
        lora: the adapters' shape.
        lr: learning rate of all but the projector.
        projector_lr: learning rate of the projector.
        weight_decay: of AdamW, on matrices only.
        betas: of AdamW.
        warmup: share of the steps over which the learning rate rises.
        dtype: of the frozen weights; `auto` for the checkpoint's own. Trained ones are fp32.
        quantization: keep the frozen weights in few bits (QLoRA).
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        loss_reduction: `global` (weighted) count of answer tokens, or LLaVA's mean `per_device`.

    Source: LLaVA-1.5's published fine-tuning script.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        components: Components | None = None,
        aspect: Aspect | None = None,
        tune: Literal["lora", "full", "none"] = "lora",
        lora: LoRA = LoRA(),  # noqa: B008 - frozen
        lr: NonNegative = 2e-4,
        projector_lr: NonNegative = 2e-5,
        weight_decay: NonNegative = 0.0,
        betas: tuple[ProperFraction, ProperFraction] = (0.9, 0.999),
        warmup: Fraction = 0.03,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        quantization: Quantization | None = None,
        gradient_checkpointing: bool = False,
        loss_reduction: Literal["global", "per_device"] = "global",
    ) -> None:
        super().__init__()
        self.checkpoint, self.components = checkpoint, components
        self.aspect = aspect
        self.quantization = quantization
        self.tune = tune
        self.lora = lora
        self.lr = lr
        self.projector_lr = projector_lr
        self.weight_decay = weight_decay
        self.betas = betas
        self.warmup = warmup
        self.dtype_name = dtype
        self.gradient_checkpointing = gradient_checkpointing
        self.loss_reduction = loss_reduction
        self.model: Any = None
        self._processor: Any = None
        self._reported = False
        self._tokens = torch.zeros(())
        self.seed = 0
        """Of dropout; the recipe sets its own."""
        # a training checkpoint holds what is trained, and nothing else
        self.strict_loading = False

    def fingerprint(self) -> dict[str, Any]:
        """What defines the model before it is trained, and how it is trained."""
        return {
            "checkpoint": describe_checkpoint(self.origin),
            "aspect": self.aspect,
            "quantization": asdict(self.quantization) if self.quantization else None,
            "tune": self.tune,
            "lora": asdict(self.lora),
            "optimiser": [self.lr, self.projector_lr, self.weight_decay, self.betas, self.warmup],
            "dtype": self.dtype_name,
            "loss_reduction": self.loss_reduction,
        }

    @property
    def origin(self) -> str | Components:
        """Where the model comes from.

        Raises:
            UserError: nothing says so, or two options do.
        """
        if self.components is None and self.checkpoint is None:
            raise UserError(
                "model.checkpoint is not set; give the pre-instruction model (a folder or hub id), "
                "its parts in model.components, or a config that has one, such as --config photos.yaml"
            )
        if self.components is not None and self.checkpoint is not None:
            raise UserError(
                "model.checkpoint and model.components are both set; give one, and null for the other"
            )
        return self.components or self.checkpoint or ""

    @property
    def processor(self) -> Any:  # noqa: ANN401
        """The checkpoint's tokenizer and image processor, or (`ChatProcessor`) its own of both."""
        if self._processor is None:
            self._processor = processor_of(self.origin, self.aspect)
        return self._processor

    def configure_model(self) -> None:
        """Load the weights, on every rank, when the Trainer asks for them."""
        if self.model is not None:
            return
        self.model = load_model(
            self.origin, self.tune, self.lora, self.dtype_name, self.quantization
        )
        if self.gradient_checkpointing:
            unwrapped(self.model).gradient_checkpointing_enable({"use_reentrant": False})
        if self.device_mesh is not None:
            shard_model(self.model, self.device_mesh["data_parallel"])

    def answer_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed answer loss (B,) and number of answer tokens (B,) of each sample.

        The language-model head is applied at answer positions only.
        """
        return answer_losses(self.model, batch)

    def on_fit_start(self) -> None:
        """Refuse packed batches where the model would read them as one sequence."""
        if getattr(getattr(self.trainer, "datamodule", None), "packing", False):
            require_packable(unwrapped(self.model).config, self.loss_reduction)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw dropout from the pass's own seed: the same in a continued fit, and on any device."""
        world, passes = self.trainer.world_size, self.trainer.accumulate_grad_batches
        place = [self.seed, self.global_step, batch_idx % passes * world + self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of this rank's part of the global batch (rows of weight 0 only fill it up)."""
        loss, tokens = weighted_total(*self.answer_losses(batch), batch["weight"].float())
        mean: Tensor = loss / torch.where(tokens > 0, tokens, 1.0)
        rows = len(batch["weight"])
        self.log("train_loss", mean.detach(), prog_bar=True, sync_dist=True, batch_size=rows)
        if self.loss_reduction == "per_device":
            return mean
        # a sum: `on_before_optimizer_step` divides by the weighted tokens of all passes and ranks
        self._tokens = self._tokens.to(tokens) + tokens
        summed: Tensor = loss * self.trainer.accumulate_grad_batches
        return summed

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Turn gradients of summed losses into those of the mean over the global batch.

        Ranks average their gradients; times the number of ranks makes that a sum.
        """
        if self.loss_reduction == "per_device":
            return
        total = float(self.trainer.strategy.reduce(self._tokens, reduce_op="sum"))
        self._tokens = torch.zeros(())
        factor = self.trainer.world_size / (total or 1.0)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Both losses of each sample of a block: PreSel's L(R|Q,I) and L(R|I), in nats.

        And whether each answer token, given those before it, is the likeliest (`correct`).

        What both inputs begin with is computed once, where the model allows it.
        """
        (with_question, labels), (without, others) = self.paired_logits(batch)
        with_sum, n_tokens = sample_losses(with_question, labels)
        without_sum, n_without = sample_losses(without, others)
        return {
            "loss_with_question": with_sum / n_tokens,
            "loss_without_question": without_sum / n_without,
            "n_tokens": n_tokens,
            "correct": teacher_forced_match(with_question, labels),
        }

    def paired_logits(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Logits (T, V) at the answer positions, and labels (B, L), with the question and without."""
        model = unwrapped(self.model)
        sides = [model_inputs(model, batch[side]) for side in SIDES]
        image = {name: value for name, value in batch.items() if name not in NO_IMAGE}
        image = model_inputs(model, image)
        prefix = self.prefix_to_share(batch["prefix"])
        if prefix:
            hidden = one_prefix(model, sides, image["pixel_values"], prefix)
        else:
            hidden = two_passes(model, sides, image)
        labels = [batch[side]["labels"][:, prefix:] for side in SIDES]
        return [(answer_logits(model, h, l), l) for h, l in zip(hidden, labels, strict=True)]

    def prefix_to_share(self, agreed: int) -> int:
        """Tokens at the front that are computed once for both losses; says once if there are none.

        Args:
            agreed: tokens on which both inputs of every sample of a block agree.
        """
        reason = why_not_shared(unwrapped(self.model))
        if reason is None and not agreed:
            reason = "the inputs with and without the question begin differently"
        if reason is not None and not self._reported:
            self._reported = True
            if rank_zero():
                message = f"losses: two passes over each image instead of one, as {reason}"
                console.print(message, soft_wrap=True)
        return 0 if reason else agreed

    @torch.inference_mode()
    def generate(self, batch: Batch, max_new_tokens: int, stop: Sequence[int] = ()) -> list[str]:
        """Answer a left-padded batch of prompts greedily.

        Args:
            batch: inputs of the model.
            max_new_tokens: limit on an answer.
            stop: tokens that end an answer, besides those that the checkpoint names.
        """
        model = unwrapped(self.model)
        tokenizer = self.processor.tokenizer
        output = model.generate(
            **model_inputs(model, batch),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.ends(stop),
            pad_token_id=tokenizer.pad_token_id,
        )
        answers = output[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def ends(self, stop: Sequence[int] = ()) -> list[int]:
        """Tokens that end an answer: the checkpoint's own, and some more."""
        named = unwrapped(self.model).generation_config.eos_token_id
        own = self.processor.tokenizer.eos_token_id
        ends = {own, *stop, *(named if isinstance(named, list) else [named])}
        return sorted(ends - {None})

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union
        """AdamW with the projector in its own group; cosine over all steps after a warm-up."""
        # imported where it is used: it brings PEFT and bitsandbytes
        from transformers import get_cosine_schedule_with_warmup

        total = int(self.trainer.estimated_stepping_batches)
        # LLaVA's first step is at rate 0: where it is the only one, nothing would be learnt
        warmup = min(ceil(self.warmup * total), total - 1)
        optimizer = AdamW(self.parameter_groups(), lr=self.lr, betas=self.betas)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Trained parameters by learning rate and weight decay (none on vectors)."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                rate = self.projector_lr if is_projector(name) else self.lr
                decay = self.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained only; the rest is in the pre-instruction checkpoint."""
        trained = trained_state(self)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name in trained}

    def save(self, folder: str | Path) -> None:
        """Write adapter or weights, tokenizer and image processor, ready to be loaded again.

        All processes must call it; the first one writes.
        """
        state = whole_state(self.model) if is_sharded(self.model) else None
        if self.global_rank == 0:
            save_model(self.model, Path(folder), state)
            self.processor.save(Path(folder))
