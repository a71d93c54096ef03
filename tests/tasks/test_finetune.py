from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer

from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import LoRA
from presel_lightning.models.llava import PROJECTOR, unwrapped
from presel_lightning.tasks import FineTune

SMALL = LoRA(r=4, alpha=8, dropout=0.0)


def module(tune: Any = "lora", **options: Any) -> FineTune:
    made = FineTune("quickstart", tune=tune, lora=SMALL, dtype="float32", **options)
    made.configure_model()
    return made


@pytest.fixture(scope="module")
def data(finished: Path, pool_folder: Path) -> SelectionDataModule:
    from presel_lightning.data.pool import load_pool

    made = SelectionDataModule(
        str(pool_folder / "train.json"), template="vicuna_bare", batch_size=6, num_workers=0
    )
    made.pool = load_pool(finished, pool_folder)
    return made


def plain_trainer(folder: Path, **options: Any) -> Trainer:
    """A Trainer that writes nothing and leaves the batches alone."""
    return Trainer(
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )


def first_batch(data: SelectionDataModule, tuned: FineTune) -> dict[str, Any]:
    data.train_on(data.pool.uid[:6], tuned.processor, seed=0)
    assert data._train is not None
    batch: dict[str, Any] = next(iter(data._train(0, 1)))
    return batch


def test_answer_losses_match_transformers_per_sample(data: SelectionDataModule) -> None:
    """Sample by sample, on the sample's own unpadded row, with transformers' own loss."""
    tuned = module("none")
    batch = first_batch(data, tuned)
    sums, counts = tuned.answer_losses(batch)
    for row in range(len(batch["weight"])):
        length = int(batch["attention_mask"][row].sum())
        loss = unwrapped(tuned.model)(
            input_ids=batch["input_ids"][row : row + 1, :length],
            pixel_values=batch["pixel_values"][row : row + 1],
            labels=batch["labels"][row : row + 1, :length],
        ).loss
        torch.testing.assert_close(sums[row] / counts[row], loss, rtol=1e-4, atol=1e-5)


def test_lora_freezes_the_vision_tower() -> None:
    trained = [name for name, p in module().named_parameters() if p.requires_grad]
    assert trained and not any("vision_tower" in name for name in trained)
    assert any(PROJECTOR in name for name in trained)
    rest = [name for name in trained if PROJECTOR not in name]
    assert rest and all("lora_" in name and "language_model" in name for name in rest)


def test_full_tuning_trains_all_but_the_vision_tower() -> None:
    for name, parameter in module("full").named_parameters():
        assert parameter.requires_grad == ("vision_tower" not in name)


def test_parameter_groups_give_the_projector_its_own_lr() -> None:
    tuned = module(lr=3e-3, projector_lr=5e-4, weight_decay=0.1)
    names = {id(p): name for name, p in tuned.named_parameters()}
    groups = tuned.parameter_groups()
    for group in groups:
        for parameter in group["params"]:
            projector = PROJECTOR in names[id(parameter)]
            assert group["lr"] == (5e-4 if projector else 3e-3)
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    grouped = sum(len(group["params"]) for group in groups)
    assert grouped == sum(p.requires_grad for p in tuned.parameters())


@pytest.mark.parametrize(("total", "warmup"), [(103, 3), (1, 0), (2, 1)])
def test_learning_rate_warms_up_then_decays_by_cosine(total: int, warmup: int) -> None:
    tuned = module(lr=2.0, projector_lr=2.0, warmup=0.029)
    tuned.configure_model()
    tuned.trainer = SimpleNamespace(estimated_stepping_batches=total)  # type: ignore[assignment]
    found = tuned.configure_optimizers()
    rates = []
    for _ in range(total):
        rates.append(found["optimizer"].param_groups[0]["lr"] / 2.0)
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
    steps = np.arange(total)
    fall = 0.5 * (1 + np.cos(np.pi * (steps - warmup) / max(1, total - warmup)))
    assert rates == pytest.approx(np.where(steps < warmup, steps / max(1, warmup), fall))
    assert max(rates) == 1.0  # a fit of one step learns something too


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_saved_model_loads_with_equal_losses(
    tune: str, data: SelectionDataModule, tmp_path: Path
) -> None:
    tuned = module(tune)
    batch = first_batch(data, tuned)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
        expected, _ = tuned.answer_losses(batch)
    tuned.save(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    again = FineTune(str(tmp_path), tune="none", dtype="float32")
    again.configure_model()
    found, _ = again.answer_losses(batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_training_checkpoint_holds_only_trained_parameters(
    data: SelectionDataModule, tmp_path: Path
) -> None:
    tuned = module()
    data.train_on(data.pool.uid[:6], tuned.processor, seed=0)
    trainer = plain_trainer(tmp_path, max_steps=1)
    trainer.fit(tuned, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {name for name, p in tuned.named_parameters() if p.requires_grad}


def test_training_step_ignores_rows_of_weight_zero(data: SelectionDataModule) -> None:
    tuned = module()
    batch = first_batch(data, tuned)

    class Alone:
        accumulate_grad_batches = 1

    tuned._trainer = Alone()  # type: ignore[assignment]
    tuned.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    part = {name: value[:4] for name, value in batch.items()}
    batch["weight"][4:] = 0
    torch.testing.assert_close(tuned.training_step(batch, 0), tuned.training_step(part, 0))


def test_generate_batch_equals_single_prompts(
    data: SelectionDataModule, finished: Path, pool_folder: Path
) -> None:
    from presel_lightning.callbacks import Benchmark
    from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile

    tuned = FineTune(str(finished / "models" / "full"), tune="none", dtype="float32")
    tuned.configure_model()
    items = AnnotationFile(str(pool_folder / "test.json")).items()[:6]
    scorer = Benchmark([], "vicuna_bare")
    together = tuned.generate(scorer.prompts(items, tuned.processor), 12)
    alone = [tuned.generate(scorer.prompts([i], tuned.processor), 12)[0] for i in items]
    assert together == alone


def test_training_step_does_not_depend_on_micro_batch_size(
    data: SelectionDataModule, tmp_path: Path
) -> None:
    """Weights after three steps, in one pass each and in passes of two rows."""

    def fitted(micro: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        tuned = module(lr=1e-3, warmup=0.0)
        data.micro_batch_size = micro
        data.train_on(data.pool.uid[:17], tuned.processor, seed=0)
        trainer = plain_trainer(tmp_path, accumulate_grad_batches=data.passes(1), max_epochs=1)
        trainer.fit(tuned, data)
        assert trainer.global_step == 3  # 17 samples, 6 a step
        return {name: p for name, p in tuned.named_parameters() if p.requires_grad}

    whole, cut = fitted(None), fitted(2)
    for name, parameter in whole.items():
        torch.testing.assert_close(cut[name], parameter, rtol=2e-3, atol=2e-5)
