"""The GPU bench's own code, small and on the CPU; and its formula against a counter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.bench_gpu import END, START, main, put_between
from tests.bench.gpu_models import SIZES, Untrained, peak_flops, training_flops

TINY = ["--size", "tiny", "--device", "cpu", "--workers", "0"]


def test_bench_gpu_tiny_measures_every_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "rows.json", tmp_path / "page.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    assert main([*TINY, "--out", str(out), "--write", str(page)]) == 0
    rows = json.loads(out.read_text())
    kinds = {row["what"] for row in rows}
    assert kinds == {"paired losses", "LoRA training", "DINOv2 features", "k-means"}
    fits = [row for row in rows if row["what"] == "LoRA training"]
    assert len(fits) == 2 * 2 * len(SIZES["tiny"].micro)  # kernels, recomputed or not, batches
    assert all(row["tokens_a_second"] > 0 and row["mfu"] is None for row in fits)
    losses = [row for row in rows if row["what"] == "paired losses"]
    assert max(row["largest_relative_difference"] for row in losses) < 1e-4
    written = page.read_text()
    assert written.startswith(f"before\n{START}\nDevice: CPU") and written.endswith("\nafter\n")
    assert "old" not in written and "| IRS loop's step" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_bench_gpu_without_cuda_exits_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    error = capsys.readouterr().err
    assert "no CUDA device" in error and error.count("\n") == 1


def test_put_between_without_markers_leaves_the_page_unchanged(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="no lines"):
        put_between(page, "table")
    assert page.read_text() == "text"


def test_training_flops_match_flop_counter_mode() -> None:
    """Eager attention, whose products the counter sees whole, on two samples of equal length."""
    size = SIZES["tiny"]
    module = Untrained(size, "cpu", torch.float32, "lora")
    module.configure_model()
    module.recompute("eager", checkpointing=False)
    answer, length = 6, size.places + 20
    ids = torch.full((2, length), 5)
    ids[:, 1 : 1 + size.places] = 3
    labels = torch.full((2, length), -100)
    labels[:, -answer:] = 5
    pixels = torch.randn(2, 3, size.image[0], size.image[0])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    with FlopCounterMode(display=False) as counter:
        sums, _ = module.answer_losses({**batch, "pixel_values": pixels})
        sums.sum().backward()
    expected = training_flops(module.model, [length] * 2, 2 * answer)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)


def test_peak_flops_are_looked_up_by_device_name() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("NVIDIA L4") == 121e12
    assert peak_flops("CPU") is None
