"""Gradients of every sample: values, interruption, a validation file; processes: test_instructions.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from presel_lightning.cli.main import main
from presel_lightning.data import Pool, build_pool, load_pool, source
from presel_lightning.functional.sketch import draw_sketch, project
from presel_lightning.loading.datasets import WholeSet
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models.adapted import load_adapted
from presel_lightning.models.forward import model_inputs
from presel_lightning.models.llava import LoRA
from presel_lightning.models.llava_processor import load_processor
from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.recipe.passes import GradientsPass
from presel_lightning.recipe.passes.base import Throughput, Work
from presel_lightning.signals import Gradients, Signals
from presel_lightning.tasks.block_writer import BlockWriter
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.gradients import layer_of
from presel_lightning.tasks.head_gradients import HeadGradients
from tests.conftest import fit_arguments
from tests.recipe.passes.few import first_records

WIDTH = 64


def arguments(few: Path, out: Path, *more: str) -> list[str]:
    """Make the gradients alone, of a reference model of four samples."""
    given = fit_arguments(few, out, "--selector", "Random", "--data.always_reference", "true")
    sizes = ["--data.reference", "4", "--data.budget", "12", "--data.block_size", "8"]
    small = ["--gradient_width", str(WIDTH), "--model.lora.r", "4"]
    return ["prepare", *given[1:], *sizes, *small, "--signals", "gradients", *more]


@pytest.fixture(scope="module")
def few(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 records of the pool, six of each task, two of them without an instruction."""
    folder = tmp_path_factory.mktemp("few") / "pool"
    kept = first_records(pool_folder, folder, 6)
    last = json.loads((pool_folder / "train.json").read_text())[-9:]
    (folder / "other.json").write_text(json.dumps(last))
    for record in (kept[5], kept[11]):
        record["conversations"] = []
    (folder / "train.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="module")
def out(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradients") / "run"
    assert main(arguments(few, folder, "--validation", str(few / "other.json"))) == 0
    return folder


def literal(model: PeftModel, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Gradient of each adapter's matrix for one sample, by autograd alone."""
    weights = {n: p for n, p in model.named_parameters() if ".lora_" in n}
    for weight in weights.values():
        weight.requires_grad_(True)
    inner = model.get_base_model()
    loss = inner(**model_inputs(inner, batch), labels=batch["labels"]).loss
    found = torch.autograd.grad(loss, list(weights.values()))
    return {"loss": loss.detach(), **dict(zip(weights, found, strict=True))}


def sketched(gradients: dict[str, torch.Tensor], width: int) -> torch.Tensor:
    """Sketch of the gradients as the pass lays them out: a range of columns for each layer."""
    layers = list(dict.fromkeys(layer_of(name) for name in gradients))
    edges = np.linspace(0, width, len(layers) + 1).astype(int)
    found = torch.zeros(width)
    for name, gradient in gradients.items():
        place = layers.index(layer_of(name))
        columns = slice(edges[place], edges[place + 1])
        module = name.removesuffix(".weight")
        sketch = draw_sketch(
            gradient.numel(), columns.stop - columns.start, [0, crc32(module.encode())]
        )
        found[columns] += project(gradient.reshape(1, -1), sketch)[0]
    return found


def alone(out: Path, pool: Pool, number: int) -> dict[str, torch.Tensor]:
    """Loss and gradients of one sample with an instruction under the reference model."""
    base = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, out / "models" / "reference").eval()
    rows = np.flatnonzero(pool.has_instruction)
    samples = WholeSet(pool, rows, encoder_of("vicuna_bare", load_processor("quickstart"), 2048))
    batch = samples.collate([samples[number, 1.0]])
    batch.pop("first")
    return literal(model, batch)


def test_gradients_are_those_of_each_sample_alone(out: Path, few: Path) -> None:
    pool = load_pool(out, few)
    signal = Signals(out / "signals").of(Gradients)
    columns = {name: signal.column(name) for name in ("direction", "length", "norm", "loss")}
    assert columns["direction"].shape == (22, WIDTH)
    for number in (0, 7, 13, 21):
        given = alone(out, pool, number)
        assert columns["loss"][number] == pytest.approx(float(given.pop("loss")), rel=1e-3)
        norm = torch.cat([g.flatten() for g in given.values()]).norm()
        assert columns["norm"][number] == pytest.approx(float(norm), rel=1e-3)
        expected = sketched(given, WIDTH)
        found = columns["direction"][number] * columns["length"][number]
        np.testing.assert_allclose(found, expected, atol=2e-3 * float(expected.norm()))


def test_adam_update_is_that_of_the_moments_of_the_reference_fit(
    few: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the pool; the reference split, which is the validation set, has plain gradients too."""
    out = tmp_path_factory.mktemp("adam") / "run"
    assert main(arguments(few, out, "--gradient_update", "adam")) == 0
    pool = load_pool(out, few)
    signal = Signals(out / "signals").of(Gradients)
    moments = load_file(out / "models/reference/moments.safetensors")
    given = alone(out, pool, 7)
    given.pop("loss")
    beta, gamma = FineTune("quickstart").betas
    updated = {}
    for name, gradient in given.items():
        first, second = (moments[f"model.{name}.{which}"] for which in ("first", "second"))
        step = np.empty(gradient.shape)
        for at, g in np.ndenumerate(gradient.numpy()):
            mean = beta * float(first[at]) + (1 - beta) * float(g)
            square = gamma * float(second[at]) + (1 - gamma) * float(g) ** 2
            step[at] = mean / np.sqrt(square + 1e-8)
        updated[name] = torch.from_numpy(step).float()
    expected = sketched(updated, WIDTH)
    found = signal.column("direction")[7] * signal.column("length")[7]
    np.testing.assert_allclose(found, expected, atol=5e-3 * float(expected.norm()))
    records = json.loads((out / "reference.json").read_text())
    rows = np.sort(pool.rows([record["uid"] for record in records]))
    assert signal.column("validation_task").tolist() == pool.task[rows].tolist()
    place = int(np.flatnonzero(np.flatnonzero(pool.has_instruction) == rows[2])[0])
    given = alone(out, pool, place)
    given.pop("loss")
    found = signal.column("validation_direction")[2] * signal.column("validation_length")[2]
    expected = sketched(given, WIDTH)
    np.testing.assert_allclose(found, expected, atol=2e-3 * float(expected.norm()))


def test_adam_update_needs_a_model_that_is_tuned_by_adapters(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(few, tmp_path / "run", "--gradient_update", "adam", "--model.tune", "full")
    assert main(given) == 2
    assert "gradient_update is adam, which needs" in capsys.readouterr().err


def test_samples_without_an_instruction_have_no_gradient(out: Path, few: Path) -> None:
    pool = load_pool(out, few)
    length = Signals(out / "signals").gradients(pool, np.arange(len(pool)), "length")
    assert (np.isfinite(length) == pool.has_instruction).all() and (
        ~pool.has_instruction
    ).sum() == 2


def test_validation_file_has_columns_of_its_own(out: Path, few: Path, tmp_path: Path) -> None:
    signal = Signals(out / "signals").of(Gradients)
    build_pool(source(str(few / "other.json")), tmp_path)
    pool = load_pool(tmp_path, few)
    assert (
        signal.has_validation() and signal.column("validation_task").tolist() == pool.task.tolist()
    )
    assert signal.edges().tolist() == [0, 21, 42, 64]
    given = alone(out, pool, 4)
    given.pop("loss")
    found = signal.column("validation_direction")[4] * signal.column("validation_length")[4]
    expected = sketched(given, WIDTH)
    np.testing.assert_allclose(found, expected, atol=2e-3 * float(expected.norm()))
    assert not list((out / "work").glob("gradients-*"))


def test_validation_without_instructions_is_refused(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{**r, "conversations": []} for r in json.loads((few / "other.json").read_text())]
    shutil.copytree(few / "images", tmp_path / "images")
    (tmp_path / "none.json").write_text(json.dumps(records))
    wrong = arguments(few, tmp_path / "run", "--validation", str(tmp_path / "none.json"))
    assert main(wrong) == 2
    assert "validation" in (said := capsys.readouterr().err) and "no sample with an" in said
    assert main(arguments(few, tmp_path / "run", "--validation", "nowhere.json")) == 2
    assert "nowhere.json" in capsys.readouterr().err


def test_width_below_the_number_of_layers_is_refused(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(few, tmp_path / "run", "--gradient_width", "1")) == 2
    assert "gradient_width is 1" in capsys.readouterr().err


def same_files(one: Path, other: Path) -> None:
    files = sorted((one / "signals" / "gradients").glob("*.npy"))
    assert len(files) == 9
    for file in files:
        np.testing.assert_array_equal(
            np.load(file), np.load(other / "signals" / "gradients" / file.name)
        )


def test_pass_that_was_killed_continues_to_the_same_files(
    out: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once inside the pool, and once inside the validation file."""
    again, write = tmp_path / "run", BlockWriter.write_on_batch_end
    given = arguments(few, again, "--validation", str(few / "other.json"))
    seen: list[str] = []

    def killed(self: BlockWriter, *args: Any) -> None:
        seen.append(kind := self.folder.name.split("-")[1])
        if seen.count(kind) == 2:
            raise RuntimeError("killed")
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(BlockWriter, "write_on_batch_end", killed)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="killed"):
                main(["--debug", *given])
    assert list((again / "work").glob("gradients-*/block-*.npz"))
    assert main(given) == 0
    same_files(out, again)


def test_model_that_was_tuned_whole_gets_an_adapter_by_seed() -> None:
    one, same, other = (
        load_adapted("quickstart", LoRA(r=2, dropout=0.0), "float32", None, seed)
        for seed in (0, 0, 1)
    )
    state = [
        {n: p for n, p in model.named_parameters() if "lora_A" in n} for model in (one, same, other)
    ]
    assert state[0] and not any(p.requires_grad for p in one.parameters())
    assert all(torch.equal(state[0][n], state[1][n]) for n in state[0])
    assert not all(torch.equal(state[0][n], state[2][n]) for n in state[0])


def test_estimate_counts_the_fit_once_and_the_disk_twice_the_sketch() -> None:
    work = Work(reference=10, images=0, arms={"final": 10}, pool=100, gradient_width=8)
    alone = GradientsPass.estimate(work, Throughput(training=2.0))
    assert alone == {"gradients": 55}
    beside = Work(**{**vars(work), "needs": ("paired_loss", "gradients")})
    assert GradientsPass.estimate(beside, Throughput(training=2.0)) == {"gradients": 50}
    assert GradientsPass.disk(work, 0, 0) == 2 * 2 * 8 * 100


def test_head_gradients_are_those_of_the_output_embeddings(few: Path, out: Path) -> None:
    """By autograd, projected on both sides."""
    pool = load_pool(out, few)
    tuned = FineTune(str(out / "models" / "reference"), tune="none", dtype="float32")
    reader = HeadGradients(tuned, WIDTH, seed=3)
    reader.configure_model()
    reader.eval()
    rows = np.flatnonzero(pool.has_instruction)[:5]
    samples = WholeSet(pool, rows, encoder_of("vicuna_bare", tuned.processor, 2048))
    with torch.inference_mode():
        found = reader.predict_step(samples.collate([samples[n, 1.0] for n in range(5)]), 0)
    model = reader.model
    weight = model.get_output_embeddings().weight.requires_grad_(True)
    left, right = (draw_sketch(n, 8, [3, side]) for side, n in enumerate(weight.shape))
    for number in range(5):
        batch = samples.collate([samples[number, 1.0]])
        batch.pop("first")
        loss = model(**model_inputs(model, batch), labels=batch["labels"]).loss
        (gradient,) = torch.autograd.grad(loss, weight)
        expected = project(project(gradient.T.contiguous(), left).T.contiguous(), right).flatten()
        own = found["direction"][number].float() * found["length"][number]
        assert float(found["loss"][number]) == pytest.approx(float(loss), rel=1e-4)
        np.testing.assert_allclose(own, expected, atol=2e-3 * float(expected.norm()))
