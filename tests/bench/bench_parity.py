"""How far each choice beside LLaVA's and PreSel's own code changes the paired losses and the IRS.

    python tests/bench/bench_parity.py [--out parity.json]

On tiny random parts with the published structure: our losses beside LLaVA's literal computation, one
sample at a time with its own token ids and masks, and what merges by id instead of by score change.
On the shipped model: images padded or cut to a square, and number formats. That model is small: these
figures show the order of a change, not its size on LLaVA-1.5-7B.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    LlamaForCausalLM,
)

from presel_lightning.console import quiet
from presel_lightning.eval import IRSLoop
from presel_lightning.functional import task_weights
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.tokens import encode
from presel_lightning.models import Components
from presel_lightning.models.llava_processor import Processor
from presel_lightning.quickstart.world import generate
from presel_lightning.tasks import FineTune
from tests.bench.bench_irs import open_data
from tests.bench.common import Row, keep
from tests.models import tiny
from tests.models.llama_file import SlowLlama, conversation, text, write_trained
from tests.models.test_llava import SYSTEM, Published, samples, written

SIDES = (True, False)
N_TEXTS = 3000
SIZES = {"colour": 64, "shape": 32, "caption": 32}
MARGIN = 8
"""Pixels added to an image of 48, left and right of it, so that it is not square."""
EQUAL = dict.fromkeys(("loss_with_question_max", "loss_without_question_max"), "<= 1e-6")


def figure(value: float) -> float:
    """A value of two digits."""
    return float(f"{value:.1e}")


def changes(found: np.ndarray, expected: np.ndarray) -> Row:
    """Mean and largest relative change of both losses (2, N) and of the IRS."""
    pairs = {
        "loss_with_question": (found[0], expected[0]),
        "loss_without_question": (found[1], expected[1]),
        "irs": (found[0] / found[1], expected[0] / expected[1]),
    }
    row: Row = {}
    for name, (ours, theirs) in pairs.items():
        change = np.abs(ours / theirs - 1)
        row |= {f"{name}_mean": figure(change.mean()), f"{name}_max": figure(change.max())}
    return row


def published(parts: Components, *, legacy: bool) -> Published:
    """LLaVA's own computation on the parts."""
    return Published(
        SlowLlama(Path(parts.language_model) / "tokenizer.model", legacy=legacy),
        LlamaForCausalLM.from_pretrained(parts.language_model),
        CLIPVisionModel.from_pretrained(parts.vision_tower),
        torch.load(parts.projector, weights_only=True),
        CLIPImageProcessorPil.from_pretrained(parts.vision_tower),
    )


def literal(source: Published) -> np.ndarray:
    """Its losses with and without the question, one sample at a time: (2, N)."""
    found = [
        [source.loss(written(turns, with_question=side), image) for turns, image in samples()]
        for side in SIDES
    ]
    return np.array(found)


@torch.inference_mode()
def in_blocks(tuned: FineTune, processor: Processor, size: int) -> np.ndarray:
    """Paired losses of the product in blocks of samples: (2, N)."""
    encoder, chosen = Encoder("vicuna_v1", processor, 2048), samples()
    blocks = []
    for start in range(0, len(chosen), size):
        block = [encoder.pair(*sample) for sample in chosen[start : start + size]]
        losses = tuned.predict_step(encoder.pair_batch(block), 0)
        sides = [losses[f"loss_{side}_question"].double() for side in ("with", "without")]
        blocks.append(torch.stack(sides).numpy())
    return np.concatenate(blocks, axis=1)


def by_id(parts: Components, image: int) -> Any:
    """What transformers alone makes of `tokenizer.model`, with `<image>` added and LLaVA's padding."""
    tokenizer = AutoTokenizer.from_pretrained(parts.language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.pad_token = tokenizer.unk_token
    assert tokenizer.convert_tokens_to_ids("<image>") == image
    return tokenizer


def share_of_other_ids(tokenizer: Any, slow: SlowLlama) -> float:
    """Share of the texts of the tokenizer's test that get ids other than sentencepiece's."""
    rng = np.random.default_rng(1)
    texts = [(conversation if number % 2 else text)(rng) for number in range(N_TEXTS)]
    other = [encode(each, tokenizer, 1).input_ids != slow.with_image(each) for each in texts]
    return figure(sum(other) / len(other))


def against_llava(folder: Path, out: Path, *, legacy: bool) -> None:
    """Rows of the product and of merges by id beside the literal computation."""
    parts = tiny.write_parts(folder, partial(write_trained, legacy=legacy))
    data = f"tiny parts, {len(samples())} samples, legacy {legacy}"
    source = published(parts, legacy=legacy)
    theirs = literal(source)
    tuned = FineTune(components=parts, tune="none", dtype="float32")
    tuned.configure_model()
    for size in (1, 8):
        row = changes(in_blocks(tuned, tuned.processor, size), theirs)
        keep(out, {"what": f"ours in blocks of {size}, beside LLaVA", "data": data, **row}, **EQUAL)
    padded = in_blocks(tuned, tuned.processor, 8)
    squared = in_blocks(tuned, tuned.processor.with_aspect("square"), 8)
    keep(out, {"what": "square, beside pad", "data": data, **changes(squared, padded)})
    other = by_id(parts, source.slow.image)
    prompt = f"{SYSTEM} USER: <image> ASSISTANT:"
    row = {
        "what": "merges by id, beside LLaVA",
        "data": data,
        "texts_with_other_ids": share_of_other_ids(other, source.slow),
        "question_free_prompt_equal": encode(prompt, other, 1).input_ids
        == source.slow.with_image(prompt),
        **changes(in_blocks(tuned, replace(tuned.processor, tokenizer=other), 8), theirs),
    }
    keep(out, row)


def widen(folder: Path) -> None:
    """Make images 64 by 48, the old one at a random place, its edges repeated around it."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.png")):
        old = np.asarray(Image.open(path).convert("RGB"))
        left = int(rng.integers(0, 2 * MARGIN + 1))
        around = ((0, 0), (left, 2 * MARGIN - left), (0, 0))
        Image.fromarray(np.pad(old, around, mode="edge")).save(path)


def by_loop(data: SelectionDataModule, precision: Any, **model: Any) -> np.ndarray:
    """Paired losses of the shipped model by the IRS loop, through a Trainer: (2, N)."""
    tuned = FineTune("quickstart", tune="none", **model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            precision=precision,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            default_root_dir=folder,
        )
        table = IRSLoop(Path(folder) / "losses").run(trainer, tuned, data, data.pool.uid)
    sides = [table[f"loss_{side}_question"].to_numpy() for side in ("with", "without")]
    return np.stack(sides).astype(np.float64)


def weights(data: SelectionDataModule, losses: np.ndarray) -> np.ndarray:
    """Share of the budget of each task, by the paper's rule: (M,)."""
    irs = losses[0] / losses[1]
    means = [irs[data.pool.task_rows(task)].mean() for task in data.pool.tasks]
    return np.asarray(task_weights(torch.tensor(means)))


def on_the_shipped_model(folder: Path, out: Path) -> None:
    """Rows of square against pad and of each number format against fp32."""
    generate(folder / "pool", seed=1, sizes=SIZES, test_per_task=1)
    widen(folder / "pool")
    data = open_data(folder / "pool", folder / "run")
    exact = by_loop(data, "32-true", dtype="float32")
    others = {
        "square, beside pad": by_loop(data, "32-true", dtype="float32", aspect="square"),
        "fp16 (16-true), beside fp32": by_loop(data, "16-true", dtype="float16"),
        "bf16 (bf16-true), beside fp32": by_loop(data, "bf16-true", dtype="bfloat16"),
        "bf16 (bf16-mixed), beside fp32": by_loop(data, "bf16-mixed", dtype="bfloat16"),
    }
    for what, losses in others.items():
        share = np.abs(weights(data, losses) - weights(data, exact)).max()
        row = {"what": what, "data": f"shipped model, {len(data.pool)} samples of 64 x 48 pixels"}
        keep(out, {**row, **changes(losses, exact), "task_weight_max_change": figure(share)})


def main() -> None:
    """Run, print each row, and put the rows into the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("parity.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as name:
        os.environ["PRESEL_LIGHTNING_CACHE"] = f"{name}/cache"
        for legacy in (False, True):
            against_llava(Path(name) / f"legacy-{legacy}", arguments.out, legacy=legacy)
        on_the_shipped_model(Path(name), arguments.out)


if __name__ == "__main__":
    main()
