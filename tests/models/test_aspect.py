"""`stages.losses.model.aspect`: the losses read images in another way than the fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from presel_lightning.cli.training import recipe_from
from presel_lightning.errors import UserError
from presel_lightning.models import build_llava, load_processor, processor_of
from presel_lightning.models.aspect import Aspect
from presel_lightning.run.lock import leave
from presel_lightning.tasks import FineTune
from tests.models import tiny
from tests.models.tiny_chat import MODELS, write_chat_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("parts")
    parts = tiny.write_parts(folder)
    place = build_llava(
        parts.language_model, parts.vision_tower, parts.projector, out=folder / "llava"
    )
    return str(place)


def factory(checkpoint: str, out: Path, *more: str) -> Any:
    words = ["--out", str(out), "--model.checkpoint", checkpoint, *more]
    recipe, _ = recipe_from("check", words, "run")
    leave()
    return recipe.factory


def test_aspect_square_of_the_losses_crops_while_the_fits_pad(
    checkpoint: str, tmp_path: Path
) -> None:
    stages = factory(checkpoint, tmp_path / "run", "--stages.losses.model", "{aspect: square}")
    tuned = stages.model("reference")
    tuned.configure_model()
    tuned.save(tmp_path / "reference")
    losses = stages.model("losses", checkpoint=str(tmp_path / "reference"), tune="none")
    wide = tiny.picture(56, 28)
    padded, middle = load_processor(checkpoint).pixels(wide), wide.crop((14, 0, 42, 28))
    for stage in ("reference", "final"):
        torch.testing.assert_close(stages.model(stage).processor.pixels(wide), padded)
    cropped = losses.processor.pixels(wide)
    torch.testing.assert_close(cropped, losses.processor.pixels(middle))
    torch.testing.assert_close(cropped, load_processor(checkpoint).pixels(middle))
    assert not torch.equal(cropped, padded)


def test_aspect_is_part_of_the_fingerprint() -> None:
    aspects: tuple[Aspect | None, ...] = (None, "pad", "square")
    found = [FineTune("quickstart", aspect=aspect).fingerprint() for aspect in aspects]
    assert len({str(facts) for facts in found}) == len(aspects)


def test_aspect_of_another_model_raises_user_error(tmp_path: Path) -> None:
    place = write_chat_model(next(iter(MODELS)), tmp_path / "chat")
    with pytest.raises(UserError, match=r"model\.aspect"):
        processor_of(place, "square")
