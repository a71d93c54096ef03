"""What features cost beside the authors' procedure, at equal vectors, in one run.

    python tests/bench/bench_features.py [--large] [--out bench.json]

Theirs: batches of 64, the image processor on each image, float32, [CLS], all vectors in memory and
then in one file. Ours: the feature stage, from jpegs on disk to a memory-mapped file. One thread,
CPU-seconds. Beside the whole, what feeds the encoder is set apart: on a CPU the encoder is nearly
all of the cost, on a GPU the decoding.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from transformers import AutoModel, BitImageProcessorPil, Dinov2Config, Dinov2Model

from presel_lightning.console import quiet
from presel_lightning.data.images import open_rgb
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.datasets import ImageSet
from presel_lightning.models.llava_processor import load_image_processor
from presel_lightning.tasks import Embed
from presel_lightning.tasks.block_writer import BlockWriter
from tests.bench.common import Row, keep, measured

BATCH = 64
SHAPES = {"192 x 6": (192, 6), "base, 768 x 12": (768, 12)}


def photos(folder: Path, n: int) -> list[Path]:
    """Jpegs of 640 x 480 and of 480 x 640, as rough as photos."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(n)]
    for number, path in enumerate(paths):
        size = (640, 480) if number % 2 else (480, 640)
        rough = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC))
        noisy = picture + rng.normal(0, 6, picture.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def encoder(folder: Path, shape: tuple[int, int]) -> str:
    """An untrained DINOv2 at 224 pixels, with DINOv2's own image processing."""
    torch.manual_seed(0)
    width, layers = shape
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        image_size=518,
        patch_size=14,
    )
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    return str(folder)


def their_batches(paths: list[Path], processor: Any) -> list[Tensor]:
    """Pixel values (64, 3, H, W), each image decoded and processed by itself."""
    pixels = [
        torch.as_tensor(processor(images=open_rgb(path), return_tensors="pt")["pixel_values"])
        for path in paths
    ]
    return [torch.cat(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]


@torch.inference_mode()
def theirs(paths: list[Path], checkpoint: str, file: Path) -> Tensor:
    """The authors' feature script: (N, D)."""
    model = AutoModel.from_pretrained(checkpoint).eval()
    processor = load_image_processor(checkpoint)
    found: dict[str, Tensor] = {}
    for start in range(0, len(paths), BATCH):
        here = paths[start : start + BATCH]
        [pixels] = their_batches(here, processor)
        features = model(pixel_values=pixels).last_hidden_state[:, 0]
        found |= {path.name: row for path, row in zip(here, features, strict=True)}
    torch.save(found, file)
    return normalize(torch.stack(list(found.values())), dim=-1)


def ours(paths: list[Path], checkpoint: str, folder: Path) -> Tensor:
    """The feature stage: (N, D)."""
    data = SelectionDataModule(num_workers=0)
    writer = BlockWriter(folder / "blocks", data.show(paths, load_image_processor(checkpoint)))
    data.serve(writer.pending())
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[writer],
        default_root_dir=folder,
    )
    trainer.predict(Embed(checkpoint), datamodule=data, return_predictions=False)
    return torch.from_numpy(writer.merge()["features"])


def our_batches(paths: list[Path], processor: Any) -> list[dict[str, Any]]:
    """What our workers send to the device."""
    images = ImageSet(paths, processor)
    return [
        images.collate([images[row, 1.0] for row in range(i, min(i + BATCH, len(paths)))])
        for i in range(0, len(paths), BATCH)
    ]


def embedding(paths: list[Path], checkpoint: str, name: str, folder: Path) -> Row:
    """The whole stage both ways: equal vectors first, then the cost."""
    folder.mkdir()
    expected, their_time, their_memory = measured(
        lambda: theirs(paths, checkpoint, folder / "theirs.pt")
    )
    found, our_time, our_memory = measured(lambda: ours(paths, checkpoint, folder))
    return {
        "what": "features",
        "data": f"DINOv2 {name}, {len(paths)} photos",
        "smallest_cosine": round(float(cosine_similarity(found, expected).min()), 7),
        "authors_cpu_s": round(their_time, 2),
        "ours_cpu_s": round(our_time, 2),
        "times_faster": round(their_time / our_time, 2),
        "images_a_cpu_s": round(len(paths) / our_time, 1),
        "memory_mib": [round(their_memory), round(our_memory)],
    }


def feeding(paths: list[Path], checkpoint: str) -> Row:
    """Decoding and cropping alone: what a GPU waits for."""
    processor = load_image_processor(checkpoint)
    pixels, their_time, _ = measured(lambda: their_batches(paths, processor))
    crops, our_time, _ = measured(lambda: our_batches(paths, processor))
    return {
        "what": "feeding the encoder",
        "data": f"{len(paths)} photos",
        "authors_cpu_s": round(their_time, 2),
        "ours_cpu_s": round(our_time, 2),
        "times_faster": round(their_time / our_time, 2),
        "images_a_cpu_s": round(len(paths) / our_time, 1),
        "times_fewer_bytes_sent": round(
            sum(p.nbytes for p in pixels) / sum(c["crops"].nbytes for c in crops), 1
        ),
    }


def main() -> None:
    """Run, print a line a row, and put the rows into the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", action="store_true", help="an encoder of DINOv2-base's size too")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    names = list(SHAPES) if arguments.large else ["192 x 6"]
    with tempfile.TemporaryDirectory() as place:
        paths = photos(Path(place) / "photos", 128)
        for number, name in enumerate(names):
            checkpoint = encoder(Path(place) / f"encoder-{number}", SHAPES[name])
            some = paths if number == 0 else paths[:32]
            folder = Path(place) / f"features-{number}"
            row = embedding(some, checkpoint, name, folder)
            keep(arguments.out, row, smallest_cosine=">= 0.9999")
        keep(arguments.out, feeding(paths, checkpoint))


if __name__ == "__main__":
    main()
