"""What a GPU gets through: LoRA training, paired losses, features, clustering; and its memory.

    python tests/bench/bench_gpu.py [--out bench_gpu.json] [--write PAGE.md]
    python tests/bench/bench_gpu.py --size tiny --device cpu      # the same code, on anything

Models have LLaVA-1.5-7B's and DINOv2-base's sizes and random weights; nothing is downloaded. The
fits are those of the package, from jpegs on disk; the other figures leave the loading out.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from presel_lightning.check.probe import WARM, Clock, DevicePass, steps
from presel_lightning.console import quiet
from presel_lightning.data import build_pool, load_pool
from presel_lightning.functional import kmeans
from presel_lightning.functional.token_loss import IGNORE
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.datasets import PairSet
from presel_lightning.loading.encoder import SIDES
from presel_lightning.loading.samplers import token_blocks
from presel_lightning.models.image_encoder import ImageEncoder
from presel_lightning.quickstart.tokenizer import COMMON_WORDS
from presel_lightning.tasks import Embed
from tests.bench.bench_features import photos
from tests.bench.common import Row, keep, peak_memory_mb
from tests.bench.gpu_models import SIZES, Size, Untrained, dinov2, peak_flops, training_flops

N_STEPS = 12
"""Of a fit; the clock starts after the first `WARM`."""
BLOCK_TOKENS, BLOCK_SIZE = 8192, 32
"""Of the paired losses, as the package has them."""
START, END = "<!-- bench-gpu -->", "<!-- /bench-gpu -->"
NO_DEVICE = (
    "bench_gpu: no CUDA device here; run it on a machine with one, or try the code itself with "
    "--size tiny --device cpu"
)


class Meter(Clock):
    """The lengths of what each step was given, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[list[int]] = []
        self.answers: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *rest: Any) -> None:
        batch = rest[0]
        super().on_train_batch_end(trainer, pl_module, outputs, *rest)
        self.lengths.append(batch["attention_mask"].sum(dim=1).tolist())
        self.answers.append(int((batch["labels"] != IGNORE).sum()))


class Bench:
    """One size on one device.

    Args:
        size: of everything.
        device: `cuda` or `cpu`.
        out: file of the rows.
    """

    def __init__(self, size: Size, device: str, out: Path) -> None:
        self.size, self.device, self.out = size, device, out
        self.gpu = device == "cuda"
        self.name = torch.cuda.get_device_name() if self.gpu else "CPU"
        self.dtype = torch.bfloat16 if self.gpu else torch.float32
        self.rows: list[Row] = []

    def keep(self, row: Row) -> None:
        """Take a row down, with the device's name."""
        self.rows.append(row | {"device": self.name})
        keep(self.out, self.rows[-1])

    def run(self, data: SelectionDataModule, folder: str) -> None:
        """Measure everything."""
        self.losses(data)
        self.clear()
        self.training(data, folder)
        self.clear()
        self.features()
        self.clear()
        self.clusters()

    def clear(self) -> None:
        """Free what the last part held."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def seconds(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """A result and its wall time, the device waited for."""
        if self.gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = work()
        if self.gpu:
            torch.cuda.synchronize()
        return result, time.perf_counter() - start

    # ------------------------------------------------------------------ fits

    def attentions(self) -> list[str]:
        """Kernels that are here."""
        flash = self.gpu and find_spec("flash_attn") is not None
        return ["sdpa", "eager", *(["flash_attention_2"] if flash else [])]

    def training(self, data: SelectionDataModule, folder: str) -> None:
        """Every kernel, with and without recomputation, at growing batches until memory ends."""
        module = Untrained(self.size, self.device, self.dtype, "lora")
        module.configure_model()
        for attention in self.attentions():
            for checkpointing in (True, False):
                module.recompute(attention, checkpointing)
                for micro in self.size.micro:
                    self.clear()
                    row = self.fit(module, data, micro, folder)
                    how = "recomputed" if checkpointing else "kept"
                    what = f"{attention}, activations {how}, {micro} a pass"
                    self.keep({"what": "LoRA training", "data": what, **row})
                    if row["samples_a_second"] is None:
                        break  # more will not fit either

    def fit(self, module: Untrained, data: SelectionDataModule, micro: int, folder: str) -> Row:
        """Some steps of one pass each."""
        one = DevicePass(micro, self.device, "bf16-mixed" if self.gpu else "32-true")
        meter = Meter()
        try:
            steps(data, module, one, N_STEPS, meter, folder)
        except torch.OutOfMemoryError:
            return dict.fromkeys(["samples_a_second", "tokens_a_second", "mfu", "memory_mib"])
        seconds = meter.seconds()
        lengths = [length for step in meter.lengths[WARM:] for length in step]
        n = len(meter.lengths) - WARM
        needed = training_flops(module.model, lengths, sum(meter.answers[WARM:])) / n
        peak = peak_flops(self.name)
        return {
            "samples_a_second": round(micro / seconds, 2),
            "tokens_a_second": round(sum(lengths) / n / seconds),
            "tokens_a_sample": round(sum(lengths) / len(lengths)),
            "tflops": round(needed / seconds / 1e12, 4),
            "mfu": None if peak is None else round(needed / seconds / peak, 4),
            "memory_mib": peak_memory_mb(),
        }

    # ------------------------------------------------------------------ paired losses

    def losses(self, data: SelectionDataModule) -> None:
        """The same losses one by one, in two passes over batches, and as the package does it."""
        module = Untrained(self.size, self.device, self.dtype, "none")
        module.configure_model()
        pairs = PairSet(data.pool, np.arange(len(data.pool)), data.encoder(module.processor))
        single = self.blocks(pairs, [np.array([row]) for row in range(len(pairs))])
        blocks = self.blocks(pairs, token_blocks(pairs.lengths(), BLOCK_TOKENS, BLOCK_SIZE))
        apart = [{**block, "prefix": 0} for block in blocks]
        ways: dict[str, Callable[[], Tensor]] = {
            "one by one": lambda: torch.cat([own_loss(module.model, batch) for batch in single]),
            "two passes over batches": lambda: predicted(module, apart),
            "IRS loop's step": lambda: predicted(module, blocks),
        }
        order = torch.cat([block["rows"] for block in blocks])
        expected: Tensor | None = None
        for name, way in ways.items():
            self.clear()
            way()  # once for kernels to be chosen
            found, seconds = self.seconds(way)
            values = found if name == "one by one" else found[order.argsort()]
            expected = values if expected is None else expected
            row = {
                "samples_a_second": round(len(pairs) / seconds, 2),
                "largest_relative_difference": float(f"{(values / expected - 1).abs().max():.1e}"),
                "memory_mib": peak_memory_mb(),
            }
            self.keep({"what": "paired losses", "data": f"{name}, {len(pairs)} samples", **row})

    def blocks(self, pairs: PairSet, rows: list[np.ndarray]) -> list[dict[str, Any]]:
        """Batches on the device, with the rows that they are of."""
        made = []
        for block in rows:
            batch = pairs.collate([pairs[int(row), 1.0] for row in block])
            made.append({**move_data_to_device(batch, self.device), "rows": torch.tensor(block)})
        return made

    # ------------------------------------------------------------------ features, clusters

    def features(self) -> None:
        """The encoder on bytes that lie on the device."""
        n, batch = self.size.images
        ways = [("bfloat16", False), ("bfloat16", True), ("float32", False)] if self.gpu else []
        for dtype, compiled in ways or [("float32", False)]:
            self.clear()
            embed = Embed()
            built = dinov2(self.size, self.device, getattr(torch, dtype))
            encoder = ImageEncoder(built)
            embed.encoder = torch.compile(encoder) if compiled else encoder
            crops = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8)
            shown = {"crops": crops, "scale": torch.full((3,), 1 / 58), "shift": torch.zeros(3)}
            shown = move_data_to_device(shown, self.device)
            with torch.inference_mode():
                embed.predict_step(shown, 0)
                _, seconds = self.seconds(partial(repeat, n // batch, embed, shown))
            how = f"{dtype}, {'compiled' if compiled else 'eager'}, {batch} a batch"
            rate = round(n // batch * batch / seconds, 1)
            row = {"images_a_second": rate, "memory_mib": peak_memory_mb()}
            self.keep({"what": "DINOv2 features", "data": how, **row})

    def clusters(self) -> None:
        """K-means of one task, on the CPU and on the device."""
        n, k = self.size.rows
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(k, self.size.encoder[0], generator=generator)
        picked = torch.randint(k, (n,), generator=generator)
        noise = torch.randn(n, self.size.encoder[0], generator=generator)
        rows = torch.nn.functional.normalize(centres[picked] + noise, dim=1)
        for device in dict.fromkeys(["cpu", self.device]):
            self.clear()
            found, seconds = self.seconds(partial(kmeans, rows, k, seed=0, device=device))
            inertia = float((rows - found.centroids.cpu()[found.labels.cpu()]).square().sum())
            row = {"seconds": round(seconds, 2), "inertia": round(inertia, 2)}
            row["memory_mib"] = peak_memory_mb()
            self.keep({"what": "k-means", "data": f"{n} rows, {k} clusters, {device}", **row})


@torch.inference_mode()
def own_loss(model: Any, batch: dict[str, Any]) -> Tensor:
    """Transformers' own loss of one sample, with and without the question: (1, 2)."""
    pixels = batch["pixel_values"].to(model.dtype)
    losses = [model(**batch[side], pixel_values=pixels).loss for side in SIDES]
    return torch.stack(losses)[None].float().cpu()


@torch.inference_mode()
def predicted(module: Untrained, blocks: list[dict[str, Any]]) -> Tensor:
    """Both losses of each sample, by the package's step: (N, 2)."""
    found = []
    for block in blocks:
        losses = module.predict_step({k: v for k, v in block.items() if k != "rows"}, 0)
        found.append(torch.stack([losses[f"loss_{side}"] for side in SIDES], dim=1).float().cpu())
    return torch.cat(found)


def repeat(n: int, embed: Embed, shown: dict[str, Tensor]) -> None:
    """Embed one batch again and again."""
    for _ in range(n):
        embed.predict_step(shown, 0)


def made_up(folder: Path, size: Size, workers: int) -> SelectionDataModule:
    """Records of one turn about jpegs of 640 x 480, as rough as photos."""
    rng = np.random.default_rng(0)
    words = COMMON_WORDS.split()
    records = [
        {
            "id": number,
            "image": path.name,
            "task": "all",
            "conversations": [
                {"from": "human", "value": "<image>\n" + " ".join(rng.choice(words, 12))},
                {"from": "gpt", "value": " ".join(rng.choice(words, rng.integers(*size.answers)))},
            ],
        }
        for number, path in enumerate(photos(folder / "images", size.samples))
    ]
    (folder / "train.json").write_text(json.dumps(records), encoding="utf-8")
    data = SelectionDataModule(
        str(folder / "train.json"),
        str(folder / "images"),
        template="vicuna_bare",
        num_workers=workers,
    )
    source = data.source(folder)
    build_pool(source, folder)
    data.pool = load_pool(folder, source.image_root)
    return data


def markdown(rows: list[Row]) -> Iterator[str]:
    """The rows as one table a measurement."""
    yield f"Device: {rows[0]['device']}; torch {torch.__version__}. Random weights."
    for what in dict.fromkeys(row["what"] for row in rows):
        here = [row for row in rows if row["what"] == what]
        names = [n for n in max(here, key=len) if n not in ("what", "device")]
        yield f"\n**{what}**\n"
        yield f"| {' | '.join(name.replace('_', ' ') for name in names)} |"
        yield f"|{'---|' * len(names)}"
        for row in here:
            cells = ("-" if row.get(name) is None else str(row[name]) for name in names)
            yield f"| {' | '.join(cells)} |"


def put_between(path: Path, text: str) -> None:
    """Replace what stands between the two markers of a page.

    Raises:
        ValueError: it has no markers.
    """
    page = path.read_text(encoding="utf-8")
    if START not in page or END not in page:
        raise ValueError(f"{path} has no lines {START} and {END} to write between")
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Measure, print a line a row and a table, and write both where they are wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--workers", type=int, default=8, help="processes that decode images")
    parser.add_argument("--out", type=Path, default=Path("bench_gpu.json"))
    parser.add_argument("--write", type=Path, help="a page with two marker lines for the table")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(NO_DEVICE, file=sys.stderr)
        return 2
    if arguments.device == "cpu" and arguments.size != "tiny":
        print("bench_gpu: on a CPU give --size tiny too", file=sys.stderr)
        return 2
    quiet()
    bench = Bench(SIZES[arguments.size], arguments.device, arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        data = made_up(Path(folder), bench.size, arguments.workers)
        bench.run(data, folder)
    table = "\n".join(markdown(bench.rows))
    print(table)
    if arguments.write:
        try:
            put_between(arguments.write, table)
        except (OSError, ValueError) as error:
            print(f"bench_gpu: --write: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
