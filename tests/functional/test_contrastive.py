"""Contrastive losses against a literal loop; a pair alone has a gradient against the bank alone."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from presel_lightning.functional.contrastive import bank_losses, contrastive_losses


def unit(rows: int, seed: int, width: int = 6) -> Tensor:
    return normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def dot(one: Tensor, other: Tensor) -> float:
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def test_loss_of_a_batch_is_that_of_a_literal_loop() -> None:
    image, text = unit(5, 0), unit(5, 1)
    found = contrastive_losses(image, text, 0.5)
    for i in range(5):
        right = exp(dot(image[i], text[i]) / 0.5)
        over_texts = sum(exp(dot(image[i], text[j]) / 0.5) for j in range(5))
        over_images = sum(exp(dot(image[j], text[i]) / 0.5) for j in range(5))
        expected = -log(right / over_texts) / 2 - log(right / over_images) / 2
        assert float(found[i]) == pytest.approx(expected, rel=1e-5)
    targets = torch.arange(5)
    logits = image @ text.T / 0.5
    whole = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
    assert float(found.mean()) == pytest.approx(float(whole), rel=1e-5)


def test_loss_against_a_bank_is_that_of_a_literal_loop() -> None:
    image, text, others = unit(4, 0), unit(4, 1), (unit(7, 2), unit(7, 3))
    own = torch.zeros(4, 7, dtype=torch.bool)
    own[1, 3] = own[2, 0] = own[2, 6] = True
    found = bank_losses(image, text, *others, own, 0.2)
    for i in range(4):
        right = dot(image[i], text[i])
        left = [m for m in range(7) if not own[i, m]]
        by_text = sum(exp((dot(image[i], others[1][m]) - right) / 0.2) for m in left)
        by_image = sum(exp((dot(others[0][m], text[i]) - right) / 0.2) for m in left)
        expected = log(1 + by_text) / 2 + log(1 + by_image) / 2
        assert float(found[i]) == pytest.approx(expected, rel=1e-5)


def test_pair_alone_has_a_gradient_against_the_bank_and_none_in_a_batch_of_one() -> None:
    image, text = unit(1, 0).requires_grad_(), unit(1, 1)
    (nothing,) = torch.autograd.grad(contrastive_losses(image, text).sum(), image)
    assert not nothing.any()
    none = torch.zeros(1, 8, dtype=torch.bool)
    losses = bank_losses(image, text, unit(8, 2), unit(8, 3), none)
    (gradient,) = torch.autograd.grad(losses.sum(), image)
    assert float(losses) > 0 and float(gradient.norm()) > 0.1
    (nothing,) = torch.autograd.grad(
        bank_losses(image, text, unit(8, 2), unit(8, 3), ~none).sum(), image
    )
    assert not nothing.any()
