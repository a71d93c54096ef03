"""Training on packed rows against training on padded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from presel_lightning.cli.main import main
from presel_lightning.data.pool import load_pool
from presel_lightning.errors import UserError
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.models import LoRA
from presel_lightning.models.packed import require_packable
from presel_lightning.tasks import FineTune
from tests.conftest import fit_arguments, start
from tests.models.tiny_chat import write_chat_model
from tests.models.tiny_kinds import write_kind
from tests.tasks.test_finetune import plain_trainer

PACKED = ["quickstart", "llava_onevision", "smolvlm", "internvl", "qwen2_5_vl", "qwen3_vl"]
REFUSED = ["gemma3"]
CHAT = ("llava_onevision", "qwen2_5_vl")


def checkpoint_of(name: str, folder: Path) -> str:
    if name == "quickstart":
        return name
    return (write_chat_model if name in CHAT else write_kind)(name, folder)


def module(checkpoint: str, **options: Any) -> FineTune:
    torch.manual_seed(0)
    made = FineTune(checkpoint, lora=LoRA(r=4, dropout=0.0), dtype="float32", **options)
    made.configure_model()
    return made


def datamodule(finished: Path, pool_folder: Path, packing: bool, **options: Any) -> Any:
    made = SelectionDataModule(
        str(pool_folder / "train.json"),
        packing=packing,
        batch_size=6,
        num_workers=0,
        max_length=600,
        **options,
    )
    made.pool = load_pool(finished, pool_folder)
    return made


@pytest.mark.parametrize("name", PACKED)
def test_packed_losses_equal_padded_ones_sample_by_sample(
    name: str, finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    tuned = module(checkpoint_of(name, tmp_path), tune="none")
    found: dict[bool, dict[int, tuple[float, int]]] = {}
    for packing in (False, True):
        data = datamodule(finished, pool_folder, packing)
        data.train_on(data.pool.uid[:12], tuned.processor, seed=0)
        loader = data._train(0, 1)
        found[packing] = {}
        for batch, rows in zip(loader, loader.batch_sampler, strict=True):
            assert ("attention_mask" in batch) != packing
            with torch.no_grad():
                sums, counts = tuned.answer_losses(batch)
            if packing:  # several samples a row
                assert len(batch["input_ids"]) < len(rows) == len(counts)
            values = zip(rows, sums.tolist(), counts.tolist(), strict=True)
            found[packing] |= {row: (total, count) for (row, _), total, count in values}
    assert found[True].keys() == found[False].keys() and len(found[True]) == 12
    for row, (total, count) in found[False].items():
        assert found[True][row][1] == count
        assert found[True][row][0] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("micro", [None, 2])
def test_packed_fit_gives_the_weights_of_a_padded_one(
    micro: int | None, finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """After three steps on weighted samples."""

    def fitted(packing: bool) -> dict[str, torch.Tensor]:
        tuned = module("quickstart", lr=1e-3, warmup=0.0)
        data = datamodule(finished, pool_folder, packing, micro_batch_size=micro)
        uids = data.pool.uid[:17]
        weights = {uid: 1.0 + place % 3 for place, uid in enumerate(uids)}
        data.train_on(uids, tuned.processor, seed=0, weights=weights)
        trainer = plain_trainer(tmp_path, accumulate_grad_batches=data.passes(1), max_epochs=1)
        trainer.fit(tuned, datamodule=data)
        assert trainer.global_step == 3
        return {name: p for name, p in tuned.named_parameters() if p.requires_grad}

    padded, packed = fitted(False), fitted(True)
    moved = module("quickstart")
    assert any(
        not torch.equal(p, padded[name]) for name, p in moved.named_parameters() if name in padded
    )
    for name, parameter in padded.items():
        torch.testing.assert_close(packed[name], parameter, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_would_mix_packed_sequences_are_refused(
    name: str, finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    tuned = module(checkpoint_of(name, tmp_path))
    data = datamodule(finished, pool_folder, True)
    data.train_on(data.pool.uid[:6], tuned.processor, seed=0)
    with pytest.raises(
        UserError, match=f"data.packing .* {name.replace('_', '.')}.*packing to fal"
    ):
        plain_trainer(tmp_path, max_steps=1).fit(tuned, datamodule=data)


def test_packing_is_refused_where_the_loss_or_attention_forbids_it() -> None:
    config = module("quickstart", tune="none").model.config
    require_packable(config, "global")
    with pytest.raises(UserError, match="loss_reduction per_device"):
        require_packable(config, "per_device")
    config.get_text_config()._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="flash_attention_2"):
        require_packable(config, "global")


def packed_fit(pool_folder: Path, out: Path, *more: str) -> list[str]:
    one_arm = ["--selector", "Random", "--baselines", "[]", "--benchmarks", "[]"]
    return fit_arguments(pool_folder, out, "--data.packing", "true", *one_arm, *more)


def test_check_and_fit_take_the_option(
    pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = packed_fit(pool_folder, tmp_path / "run")
    assert main(["check", *command[1:], "--model.loss_reduction", "per_device"]) == 2
    assert "data.packing is not possible here" in capsys.readouterr().err
    assert main([*command, "--data.pack_length", "10"]) == 2
    assert "data.pack_length is 10" in capsys.readouterr().err


@pytest.mark.slow
def test_packed_fit_on_two_ranks_gives_the_weights_of_one(
    pool_folder: Path, tmp_path: Path
) -> None:
    """By the command, so that ranks share the rows of a step by their own plan of packing."""
    assert main(packed_fit(pool_folder, tmp_path / "one")) == 0
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    log = tmp_path / "log"
    assert start(packed_fit(pool_folder, tmp_path / "two", *ddp), log).wait() == 0, log.read_text()
    one, two = (
        load_file(tmp_path / name / "models" / "final" / "adapter_model.safetensors")
        for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    assert any(tensor.any() for name, tensor in one.items() if "lora_B" in name)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=2e-3, atol=2e-5)
