"""The two-tower probe: weighted steps, interruption, and the gradient of each pair alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from lightning import Callback
from torch.nn.functional import cross_entropy, normalize

from presel_lightning.callbacks import StepCheckpoint
from presel_lightning.errors import UserError
from presel_lightning.functional.contrastive import bank_losses
from presel_lightning.functional.sketch import draw_sketch, project
from presel_lightning.loading.pairs import PairDataModule, PairVectors
from presel_lightning.run.checkpoints import newest
from presel_lightning.tasks.pair_gradients import LAYERS, Bank, PairGradients
from presel_lightning.tasks.two_tower import TwoTower
from tests.fits import Kill, Killed, quiet_trainer

WIDTH = 12
N = 22


def vectors(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def pairs(weights: np.ndarray | None = None) -> PairVectors:
    digest = np.frombuffer(b"".join(bytes([n]) * 16 for n in range(N)), "V16")
    return PairVectors(vectors(N, 0), vectors(N, 1), digest, weights)


def probe(**options: float) -> TwoTower:
    return TwoTower(WIDTH, hidden=8, dimension=6, **options)  # type: ignore[arg-type]


def test_heads_map_to_unit_length_by_seed() -> None:
    before = torch.random.get_rng_state()
    one, same, other = probe(), probe(), TwoTower(WIDTH, hidden=8, dimension=6, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    given = torch.from_numpy(vectors(3, 5))
    torch.testing.assert_close(one("image", given).norm(dim=1), torch.ones(3))
    assert torch.equal(one("text", given), same("text", given))
    assert not torch.equal(one("image", given), one("text", given))
    assert not torch.equal(one("image", given), other("image", given))


def test_step_weighs_each_pair_as_a_literal_loop_does(tmp_path: Path) -> None:
    weights = np.ones(N)
    weights[[0, 3]] = 3.0, 0.0
    module, data = probe(lr=0.1), PairDataModule(pairs(weights), batch_size=N)
    expected = probe()
    image, text = (
        expected(side, torch.from_numpy(v))
        for side, v in (("image", vectors(N, 0)), ("text", vectors(N, 1)))
    )
    logits, total = image @ text.T / 0.07, torch.zeros(())
    for row in range(N):
        one = cross_entropy(logits[row], torch.tensor(row))
        other = cross_entropy(logits[:, row], torch.tensor(row))
        total = total + weights[row] * (one + other) / 2
    (total / weights.sum()).backward()
    found: dict[str, torch.Tensor] = {}

    class Keep(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            found.update({n: p.grad.clone() for n, p in pl_module.named_parameters()})

    quiet_trainer(Keep(), folder=tmp_path).fit(module, data)
    for name, value in expected.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-5)
    assert not torch.equal(module.image.first.weight, expected.image.first.weight)


@pytest.mark.parametrize("chances", [None, np.linspace(0.1, 2, N)], ids=["all", "drawn"])
def test_killed_fit_continues_to_equal_weights(chances: np.ndarray | None, tmp_path: Path) -> None:
    """Inside of an epoch of five batches, and at the end of one."""

    def fitted(*callbacks: Callback, path: Path | None = None) -> dict[str, torch.Tensor]:
        module, data = probe(), PairDataModule(pairs(), batch_size=5, seed=2, chances=chances)
        trainer = quiet_trainer(*callbacks, epochs=3)
        trainer.fit(module, data, ckpt_path=path)
        assert trainer.global_step == 15
        return module.state_dict()

    def saver() -> StepCheckpoint:
        saver = StepCheckpoint(every_n_train_steps=1)
        saver.dirpath = str(tmp_path)
        return saver

    whole = fitted()
    for at in (3, 10):
        with pytest.raises(Killed):
            fitted(saver(), Kill(at), path=newest(tmp_path))
    continued = fitted(saver(), path=newest(tmp_path))
    assert all(torch.equal(continued[name], value) for name, value in whole.items())


def test_saved_heads_are_read_back(tmp_path: Path) -> None:
    module = TwoTower(WIDTH, hidden=8, dimension=6, temperature=0.2, seed=3)
    module.save(tmp_path)
    again = TwoTower.load(tmp_path)
    assert again.temperature == 0.2 and again.shape == module.shape
    assert all(torch.equal(again.state_dict()[n], v) for n, v in module.state_dict().items())


def bank() -> Bank:
    """Three other pairs, and the pair of row 4, which is no negative of itself."""
    served = pairs()
    rows = served.collate([(4, 1.0)])
    image, text = (torch.from_numpy(vectors(3, seed)) for seed in (7, 8))
    others = torch.full((3, 2), -1)
    return Bank(
        torch.cat([image, rows["image"]]),
        torch.cat([text, rows["text"]]),
        torch.cat([others, rows["picture"]]),
    )


def test_gradients_are_those_of_autograd_on_each_pair_alone() -> None:
    module, negatives = probe(), bank()
    reader = PairGradients(module, negatives, 64, seed=5)
    served = pairs()
    batch = served.collate([(row, 1.0) for row in range(6)])
    with torch.inference_mode():
        found = reader.predict_step({k: v.clone() if hasattr(v, "clone") else v for k, v in batch.items()}, 0)  # fmt: skip
    edges = reader.edges().tolist()
    assert edges == [0, 16, 32, 48, 64] and list(LAYERS) == ["image.first", "image.second", "text.first", "text.second"]  # fmt: skip
    assert sorted(p for parts in LAYERS.values() for p in parts) == sorted(
        n for n, _ in module.named_parameters()
    )
    for row in range(6):
        own = torch.tensor([[False, False, False, row == 4]])
        image, text = (module(s, batch[s][row : row + 1]) for s in ("image", "text"))
        others = (module("image", negatives.image), module("text", negatives.text))
        loss = bank_losses(image, text, *others, own, 0.07)[0]
        names, values = zip(*module.named_parameters(), strict=True)
        gradient = dict(zip(names, torch.autograd.grad(loss, values), strict=True))
        assert float(found["loss"][row]) == pytest.approx(loss.item(), rel=1e-4)
        norm = torch.cat([g.flatten() for g in gradient.values()]).norm()
        assert float(found["norm"][row]) == pytest.approx(float(norm), rel=1e-4) and norm > 0
        expected = []
        for layer, parts in LAYERS.items():
            flat = torch.cat([gradient[part].flatten() for part in parts])
            sketch = draw_sketch(len(flat), 16, [5, crc32(layer.encode())])
            expected.append(project(flat[None], sketch)[0])
        own_row = found["direction"][row].float() * found["length"][row]
        reference = torch.cat(expected)
        np.testing.assert_allclose(own_row, reference, atol=2e-3 * float(reference.norm()))


def test_pair_alone_in_its_block_has_the_same_gradient() -> None:
    reader, served = PairGradients(probe(), bank(), 32, seed=0), pairs()
    together = reader.predict_step(served.collate([(row, 1.0) for row in range(4)]), 0)
    alone = reader.predict_step(served.collate([(2, 1.0)]), 0)
    assert float(alone["length"][0]) > 0
    for name in ("direction", "length", "loss"):
        torch.testing.assert_close(alone[name][0], together[name][2], rtol=1e-3, atol=1e-3)
    assert normalize(alone["direction"].float()).isfinite().all()


def test_fewer_columns_than_layers_are_refused() -> None:
    with pytest.raises(UserError, match="gradient_width is 3"):
        PairGradients(probe(), bank(), 3, seed=0)
