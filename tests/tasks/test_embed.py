from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch.nn.functional import cosine_similarity, normalize
from transformers import AutoModel, BitImageProcessorPil, CLIPImageProcessorPil

from presel_lightning.data.images import open_rgb
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.datasets import ImageSet
from presel_lightning.loading.samplers import even_blocks
from presel_lightning.models.checkpoint import resolve_checkpoint
from presel_lightning.models.llava_processor import load_image_processor, load_processor
from presel_lightning.tasks import Embed
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.embed import normalised

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PROCESSORS = {
    "dinov2-base": BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=MEAN,
        image_std=STD,
    ),
    "clip": CLIPImageProcessorPil(),
    "not normalised": CLIPImageProcessorPil(do_normalize=False),
    "shipped": load_image_processor("quickstart-encoder"),
    "padded": load_processor("quickstart").image_processor,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several sizes and modes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for number, (size, mode) in enumerate(
        [((64, 48), "RGB"), ((300, 410), "RGB"), ((513, 260), "L"), ((30, 31), "RGBA")] * 3
    ):
        rough = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.png")
        rough.resize(size, Image.Resampling.BICUBIC).convert(mode).save(paths[-1])
    return paths


@pytest.mark.parametrize("name", PROCESSORS)
def test_uint8_crops_normalized_on_device_match_the_processor(
    name: str, pictures: list[Path]
) -> None:
    processor = PROCESSORS[name]
    images = ImageSet(pictures, processor)
    batch = images.collate([images[index, 1.0] for index in range(len(images))])
    assert batch["crops"].dtype == torch.uint8
    found = normalised(batch["crops"], batch["scale"], batch["shift"])
    for path, pixels in zip(pictures, found, strict=True):
        expected = processor(images=open_rgb(path), return_tensors="pt")["pixel_values"][0]
        assert (pixels - expected).abs().max() < 1e-3


def embedded(folder: Path, pictures: list[Path]) -> np.ndarray:
    """Through the Trainer, blocks of four; those that lie in the folder are kept."""
    data = SelectionDataModule(num_workers=0, block_size=4)
    module = Embed("quickstart-encoder")
    writer = BlockWriter(folder, data.show(pictures, load_image_processor(module.checkpoint)))
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[writer], **options)
    data.serve(writer.pending())
    trainer.predict(module, datamodule=data, return_predictions=False)
    return np.array(writer.merge()["features"])


def test_features_equal_the_encoders_normalized_cls(tmp_path: Path, pictures: list[Path]) -> None:
    """As the authors' script computes them: one image at a time, the processor's own pixels."""
    found = torch.from_numpy(embedded(tmp_path, pictures))
    encoder = AutoModel.from_pretrained(resolve_checkpoint("quickstart-encoder")).eval()
    processor = load_image_processor("quickstart-encoder")
    for path, feature in zip(pictures, found, strict=True):
        pixels = processor(images=open_rgb(path), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            expected = normalize(encoder(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)
        assert cosine_similarity(feature, expected[0], dim=0) > 0.9999
        torch.testing.assert_close(feature, expected[0], rtol=1e-3, atol=1e-4)


def test_embed_resumes_at_the_first_missing_block(tmp_path: Path, pictures: list[Path]) -> None:
    whole = embedded(tmp_path, pictures)
    kept = tmp_path / "block-0000000.npz"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "block-0000001.npz").unlink()
    assert np.array_equal(embedded(tmp_path, pictures), whole)
    assert kept.stat().st_mtime_ns == stamp


def merged_peak(folder: Path, n_blocks: int) -> int:
    """Bytes allocated at most while blocks of 64 x 256 floats are joined."""
    writer = BlockWriter(folder, even_blocks(n_blocks * 64, 64))
    folder.mkdir()
    for number in range(n_blocks):
        rows = np.full((64, 256), number, dtype=np.float32)
        with writer.path(number).open("wb") as handle:
            np.savez(handle, features=rows)
    tracemalloc.start()
    whole = writer.merge()["features"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (whole[::64, 0] == np.arange(n_blocks)).all()
    return peak


def test_embed_memory_does_not_grow_with_the_pool(tmp_path: Path) -> None:
    few, many = (merged_peak(tmp_path / str(n), n) for n in (8, 80))
    assert many < 1.5 * few
