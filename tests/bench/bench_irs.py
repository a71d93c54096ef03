"""What the paired losses cost beside the authors' procedure, at equal values, in one run.

    python tests/bench/bench_irs.py [--large] [--out bench.json]

Three ways to the same two losses of each sample: one by one, as the authors' scripts do it (two
runs over two files, batch 1, each sample made six times over, the model's own loss); the same two
runs in batches; and the IRS loop. One thread, CPU-seconds, from files on disk to a table.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
)

from presel_lightning.console import quiet
from presel_lightning.data import build_pool, load_pool
from presel_lightning.data.images import open_rgb
from presel_lightning.eval import IRSLoop
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.datasets import TrainSet
from presel_lightning.loading.llava_encoder import Encoder
from presel_lightning.loading.padding import labelled_text
from presel_lightning.loading.tokens import Encoded
from presel_lightning.models import load_processor
from presel_lightning.quickstart.tokenizer import COMMON_WORDS
from presel_lightning.quickstart.world import generate
from presel_lightning.tasks import FineTune
from tests.bench.common import Row, keep, measured

SIDES = (True, False)
MAKINGS = 6
"""How often the authors' loop makes each sample of a run."""
BARS = {"times_faster": ">= 3", "times_faster_than_batched": ">= 1.6"}
"""Of the shipped model; where the model is nearly all of the cost, 2 is the most."""
BATCH = 8
"""Samples of a batch of the batched run: the faster of 8 and 32 here."""


def llava_like(folder: Path) -> str:
    """An untrained LLaVA in the proportions of LLaVA-1.5, a quarter of its lengths: 144 places."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=96,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=800,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=3, image_seq_length=144
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    load_processor("quickstart").tokenizer.save_pretrained(folder)
    side = {"height": 96, "width": 96}
    LlavaImageProcessorPil(do_pad=True, size=side, crop_size=side).save_pretrained(folder)
    return str(folder)


def conversations(folder: Path, n: int, answer: tuple[int, int]) -> None:
    """Records of one turn (questions of 8 to 22 words) and photo-like jpegs of 192 x 144."""
    rng = np.random.default_rng(0)
    words = COMMON_WORDS.split()

    def text(low: int, high: int) -> str:
        return " ".join(rng.choice(words, rng.integers(low, high + 1)))

    (folder / "images").mkdir(parents=True)
    records = []
    for number in range(n):
        image = f"images/{number}.jpg"
        rough = rng.integers(0, 256, (18, 24, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((192, 144), Image.Resampling.BICUBIC).save(folder / image)
        talk = [
            {"from": "human", "value": f"<image>\n{text(8, 22)}"},
            {"from": "gpt", "value": text(*answer)},
        ]
        records.append({"id": number, "image": image, "task": "all", "conversations": talk})
    (folder / "train.json").write_text(json.dumps(records), encoding="utf-8")


def open_data(folder: Path, out: Path) -> SelectionDataModule:
    """The pool of a folder, served as the recipe does."""
    annotations = str(folder / "train.json")
    data = SelectionDataModule(annotations, template="vicuna_bare", num_workers=0)
    source = data.source(out)
    build_pool(source, out)
    data.pool = load_pool(out, source.image_root)
    return data


def item(dataset: TrainSet, row: int, question: bool) -> tuple[Encoded, torch.Tensor]:
    """A sample from its files: record read, text encoded, image decoded and processed."""
    encoder = llava_encoder(dataset)
    encoded = encoder(dataset.pool.sample(row).turns, with_question=question)
    return encoded, encoder.processor.pixels(open_rgb(dataset.pool.image_path(row)))


def llava_encoder(dataset: TrainSet) -> Encoder:
    """The encoder of a data set of LLaVA's."""
    assert isinstance(dataset.encoder, Encoder)
    return dataset.encoder


@torch.inference_mode()
def one_by_one(model: Any, dataset: TrainSet) -> np.ndarray:
    """The authors' runs, with and without question: (2, N) losses."""
    losses = []
    for question in SIDES:
        for row in range(len(dataset)):
            for _ in range(MAKINGS):
                encoded, pixels = item(dataset, row, question)
            ids, labels = torch.tensor([encoded.input_ids]), torch.tensor([encoded.labels])
            loss = model(input_ids=ids, labels=labels, pixel_values=pixels[None]).loss
            losses.append(float(loss))
    return np.array(losses).reshape(2, -1)


def batches(dataset: TrainSet, question: bool) -> Iterator[dict[str, torch.Tensor]]:
    """Padded batches in the order of the list."""
    pad_id = llava_encoder(dataset).processor.tokenizer.pad_token_id
    for start in range(0, len(dataset), BATCH):
        rows = range(start, min(start + BATCH, len(dataset)))
        encoded, pixels = zip(*(item(dataset, row, question) for row in rows), strict=True)
        yield {**labelled_text(encoded, pad_id), "pixel_values": torch.stack(pixels)}


@torch.inference_mode()
def in_batches(model: Any, dataset: TrainSet) -> np.ndarray:
    """The same two runs in batches: (2, N) losses, read off the logits sample by sample."""
    losses: list[float] = []
    for question in SIDES:
        for batch in batches(dataset, question):
            labels = batch.pop("labels")[:, 1:]
            logits = model(**batch).logits[:, :-1].float()  # (B, L - 1, V)
            rows = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            each = rows.view_as(labels)  # 0 outside the answers
            losses += (each.sum(dim=1) / (labels >= 0).sum(dim=1)).tolist()
    return np.array(losses).reshape(2, -1)


def by_loop(tuned: FineTune, data: SelectionDataModule, folder: Path) -> np.ndarray:
    """The IRS loop, through the Trainer and block files: (2, N) losses."""
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    table = IRSLoop(folder / "losses").run(trainer, tuned, data, data.pool.uid)
    return np.stack([table[f"loss_{side}_question"].to_numpy() for side in ("with", "without")])


def scored(data: SelectionDataModule, checkpoint: str, name: str) -> Row:
    """All three ways over one pool: equal values first, then what they cost."""
    tuned = FineTune(checkpoint, tune="none", dtype="float32")
    tuned.configure_model()
    tuned.eval()
    dataset = TrainSet(data.pool, np.arange(len(data.pool)), data.encoder(tuned.processor))
    with tempfile.TemporaryDirectory() as folder:
        theirs, their_time, their_memory = measured(lambda: one_by_one(tuned.model, dataset))
        batched, batched_time, batched_memory = measured(lambda: in_batches(tuned.model, dataset))
        ours, our_time, our_memory = measured(lambda: by_loop(tuned, data, Path(folder)))
    return {
        "what": "paired losses",
        "data": f"{name}, {len(dataset)} samples",
        "largest_relative_difference": float(f"{np.abs(ours / theirs - 1).max():.1e}"),
        "batched_relative_difference": float(f"{np.abs(batched / theirs - 1).max():.1e}"),
        "authors_cpu_s": round(their_time, 2),
        "batched_two_pass_cpu_s": round(batched_time, 2),
        "ours_cpu_s": round(our_time, 2),
        "times_faster": round(their_time / our_time, 2),
        "times_faster_than_batched": round(batched_time / our_time, 2),
        "samples_a_cpu_s": round(len(dataset) / our_time, 1),
        "memory_mib": [round(m) for m in (their_memory, batched_memory, our_memory)],
    }


def main() -> None:
    """Run, print a line a row, and put the rows into the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", action="store_true", help="more samples, and long answers too")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    n = 256 if arguments.large else 64
    shapes = {"short answers": (5, 45)} | ({"long answers": (60, 100)} if arguments.large else {})
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sizes = {"colour": n, "shape": n // 2, "caption": n // 2}
        generate(place / "shipped", seed=1, sizes=sizes, test_per_task=1)
        data = open_data(place / "shipped", place / "shipped-run")
        row = scored(data, "quickstart", "shipped model and pool")
        keep(arguments.out, row, largest_relative_difference="<= 1e-4", **BARS)
        checkpoint = llava_like(place / "llava")
        for shape, answer in shapes.items():
            conversations(place / shape, n, answer)
            data = open_data(place / shape, place / f"{shape}-run")
            row = scored(data, checkpoint, f"LLaVA-like, {shape}")
            keep(arguments.out, row, largest_relative_difference="<= 1e-4")


if __name__ == "__main__":
    main()
