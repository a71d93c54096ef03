"""A result is used again only where everything that it depends on is as it was."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from presel_lightning.cli.configs import find_configs
from presel_lightning.cli.main import main
from presel_lightning.cli.training import recipe_from
from presel_lightning.compare.command import rests_on
from presel_lightning.models.checkpoint import resolve_checkpoint
from presel_lightning.models.image_encoder import load_encoder
from presel_lightning.recipe.passes import FeaturesPass
from presel_lightning.recipe.recipe import Recipe
from presel_lightning.run.files import read_json, write_json
from presel_lightning.run.ledger import Ledger
from presel_lightning.run.lock import leave
from presel_lightning.run.versions import LIBRARIES
from presel_lightning.tasks import Embed
from presel_lightning.tasks.block_writer import BlockWriter
from tests.conftest import benchmark_arguments, fit_arguments

Stages = dict[str, dict[str, Any]]


def stages(out: Path) -> Stages:
    found: Stages = json.loads((out / "run.json").read_text())["stages"]
    return found


def select(pool_folder: Path, out: Path, *more: str) -> int:
    return main(["select", *fit_arguments(pool_folder, out, *more)[1:]])


def recipe_of(pool_folder: Path, out: Path, *more: str) -> Recipe:
    words, name = find_configs(fit_arguments(pool_folder, out, *more)[1:])
    recipe = recipe_from("check", words, name)[0]
    leave()
    return recipe


def replace_image(path: Path, by: Path) -> None:
    """Put another picture in a file's place: of equal size, and with its mtime."""
    facts = path.stat()
    content = by.read_bytes()
    assert len(content) <= facts.st_size, "what follows the end of a PNG is not read"
    path.write_bytes(content.ljust(facts.st_size, b"\0"))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


# ------------------------------------------------------------------------------ scores


@pytest.fixture(scope="module")
def evaluated(finished: Path, pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the score of the final model, marked so that nothing else can have made it."""
    out = tmp_path_factory.mktemp("evaluated")
    assert evaluate(pool_folder, out, finished / "models" / "final") == 0
    path = out / "work" / "scores" / "evaluate-final.json"
    known = read_json(path)
    known["benchmarks"]["tiny"]["score"] = 12.34
    write_json(path, known)
    return out


def evaluate(pool_folder: Path, out: Path, checkpoint: Path, *more: str) -> int:
    given = [*benchmark_arguments(pool_folder), "--checkpoint", str(checkpoint), *more]
    return main(["evaluate", *fit_arguments(pool_folder, out, *given)[1:]])


def score(out: Path) -> float:
    found = read_json(out / "work" / "scores" / "evaluate-final.json")
    return float(found["benchmarks"]["tiny"]["score"])


@pytest.mark.parametrize(
    "more",
    [
        ["--model.dtype", "bfloat16"],
        ["--trainer.precision", "bf16-mixed"],
        ["--model.quantization", "{kind: fp4}"],
    ],
    ids=["dtype", "precision", "quantization"],
)
def test_evaluate_with_other_numerics_scores_again(
    more: list[str], evaluated: Path, finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(evaluated, tmp_path / "again")
    assert evaluate(pool_folder, out, finished / "models" / "final") == 0
    assert score(out) == 12.34, "nothing has changed"
    assert evaluate(pool_folder, out, finished / "models" / "final", *more) == 0
    assert score(out) != 12.34


def test_evaluate_of_an_adapter_on_another_base_scores_again(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(resolve_checkpoint("quickstart"), tmp_path / "base")
    adapter = shutil.copytree(finished / "models" / "final", tmp_path / "final")
    config = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", {**config, "base_model_name_or_path": str(base)})
    keys = []
    for _ in range(2):
        assert evaluate(pool_folder, tmp_path / "out", adapter) == 0
        keys.append(stages(tmp_path / "out")["evaluate-final"]["fingerprint"])
        weights = base / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1  # the last byte of the last tensor
        weights.write_bytes(content)
    assert keys[0] != keys[1]


def test_key_of_untrained_depends_on_numerics(pool_folder: Path, tmp_path: Path) -> None:
    options: list[list[str]] = [
        [],
        ["--model.dtype", "bfloat16"],
        ["--trainer.precision", "bf16-mixed"],
        ["--model.quantization", "{kind: fp4}"],
        ["--stages.final.trainer", "{precision: bf16-true}"],
    ]
    keys = [recipe_of(pool_folder, tmp_path, *o).scoring.key_of_untrained() for o in options]
    same = recipe_of(pool_folder, tmp_path, "--model.lr", "1e-5").scoring.key_of_untrained()
    assert len(set(keys)) == len(keys) and same == keys[0]


# ------------------------------------------------------------------------------ fits


def test_per_device_fit_depends_on_the_division_of_a_batch(
    finished: Path, pool_folder: Path, tmp_path: Path
) -> None:
    """Of a global loss it does not; the reference model shows it."""
    made = []
    for reduction in ("per_device", "global"):
        out = shutil.copytree(finished, tmp_path / reduction)
        for micro in ("3", "5"):
            more = ["--model.loss_reduction", reduction, "--data.micro_batch_size", micro]
            assert select(pool_folder, out, *more, "--selector.init_args.weighting", "irs") == 0
            made.append(stages(out)["reference"]["fingerprint"])
    assert made[0] != made[1] and made[2] == made[3] == stages(finished)["reference"]["fingerprint"]


def test_per_device_fit_depends_on_the_number_of_processes(
    pool_folder: Path, tmp_path: Path
) -> None:
    per_device = ["--model.loss_reduction", "per_device"]
    for options, n_names in (([], 1), (per_device, 3)):
        recipe = recipe_of(pool_folder, tmp_path, *options)
        module = recipe.factory.model("final")
        assert len({str(recipe.fits.division(module, world)) for world in (1, 2, 3)}) == n_names


# ------------------------------------------------------------------------------ images


@pytest.fixture
def own_pool(pool_folder: Path, tmp_path: Path) -> Path:
    """A copy of the pool whose images may be replaced."""
    return shutil.copytree(pool_folder, tmp_path / "pool")


def test_replaced_image_of_equal_size_and_mtime_is_embedded_again(
    finished: Path, own_pool: Path, tmp_path: Path
) -> None:
    """It gets the features of the picture that it is now; those of all others are used again."""
    out = shutil.copytree(finished, tmp_path / "run")
    assert select(own_pool, out) == 0  # the copies have been looked at
    known = stages(out)
    assert known["features"] == stages(finished)["features"], "a copy is the same image"
    images = pq.read_table(out / "pool.parquet", columns=["uid", "image"]).to_pydict()
    by_size = sorted(zip(*images.values(), strict=True), key=lambda r: size_of(own_pool / r[1]))
    reference = {record["uid"] for record in read_json(out / "reference.json")}
    (uid, image), (other, picture) = next(
        (large, small) for small, large in pairwise(by_size) if large[0] not in reference
    )
    replace_image(own_pool / image, own_pool / picture)
    assert select(own_pool, out) == 0
    again = stages(out)
    assert again["features"]["reused"] == len(images["uid"]) - 1
    assert {name for name in known if known[name] != again[name]} >= {"pool", "features"}
    assert known["reference"] == again["reference"] and known["losses"] == again["losses"]
    features = np.load(out / "signals" / "features" / "features.npy")
    row = {name.decode(): n for n, name in enumerate(np.load(out / "signals/features/uid.npy"))}
    np.testing.assert_allclose(features[row[uid]], features[row[other]], atol=1e-5)
    before = np.load(finished / "signals" / "features" / "features.npy")
    same = np.arange(len(features)) != row[uid]
    assert np.array_equal(features[same], before[same])


def size_of(path: Path) -> int:
    return path.stat().st_size


def test_replaced_image_of_equal_size_is_trained_on_again(
    finished: Path, own_pool: Path, tmp_path: Path
) -> None:
    """The split, the fit on it, and what cells of a comparison rest on have another name."""
    out = shutil.copytree(finished, tmp_path / "run")
    reference = [record["image"] for record in read_json(out / "reference.json")]
    smallest = min((own_pool / "images").iterdir(), key=size_of)
    names = []
    for _ in range(2):
        recipe = recipe_of(own_pool, out)
        recipe.pool()
        uids = recipe.split()
        names.append(
            (
                recipe.fits.whole(uids, stage="reference", is_arm=False),
                stages(out)["split"]["fingerprint"],
                rests_on(recipe, {}),
            )
        )
        replace_image(own_pool / reference[0], smallest)
    assert all(one != other for one, other in zip(*names, strict=True))


# ------------------------------------------------------------------------------ number formats


@pytest.fixture
def without_features(finished: Path, tmp_path: Path) -> Path:
    """A run folder that has all but its features and what follows."""
    out = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(out / "signals" / "features")
    Ledger(out / "run.json").record("features", status="running")
    return out


def embedding(dtype: str) -> list[str]:
    return ["--stages.features.model", f"{{checkpoint: quickstart-encoder, dtype: {dtype}}}"]


def on_a_gpu(patch: pytest.MonkeyPatch) -> None:
    """Let the encoder take this for a GPU."""

    def load(module: Embed) -> None:
        module.encoder = load_encoder(module.checkpoint, "bfloat16")

    patch.setattr(Embed, "configure_model", load)
    patch.setattr(FeaturesPass, "_device", "cuda", raising=False)


def test_features_continued_on_another_device_are_of_one_precision(
    finished: Path,
    without_features: Path,
    pool_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = BlockWriter.write_on_batch_end

    def dies(writer: BlockWriter, *args: Any, **options: Any) -> None:
        if len(writer.pending()) < len(writer.blocks) - 3:
            raise RuntimeError("killed")
        write(writer, *args, **options)

    with monkeypatch.context() as patch:
        on_a_gpu(patch)
        patch.setattr(BlockWriter, "write_on_batch_end", dies)
        assert select(pool_folder, without_features, *embedding("auto")) == 1  # killed
    begun = list((without_features / "work").glob("features-*/block-*.npz"))
    assert begun
    assert select(pool_folder, without_features, *embedding("auto")) == 0
    name = "signals/features/features.npy"
    assert (without_features / name).read_bytes() == (finished / name).read_bytes()


def test_whole_features_serve_on_any_device(
    finished: Path, pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        on_a_gpu(patch)
        assert select(pool_folder, out, *embedding("auto")) == 0
        assert stages(out)["features"] == stages(finished)["features"]
        assert select(pool_folder, out, *embedding("bfloat16")) == 0
    assert np.load(out / "signals" / "features" / "features.npy").dtype == np.float16


# ------------------------------------------------------------------------------ provenance


def test_every_stage_records_the_versions_that_made_it(finished: Path) -> None:
    for stage in stages(finished).values():
        assert set(stage["versions"]) == {"presel_lightning", *LIBRARIES}


def test_reused_stage_of_other_versions_is_named_and_keeps_its_provenance(
    finished: Path, pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    ledger = Ledger(out / "run.json")
    made = ledger.stage("losses")
    ledger.record("losses", **{**made, "versions": {**made["versions"], "peft": "0.0.1"}})
    before = stages(out)
    assert select(pool_folder, out) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "made with" in line]
    assert len(told) == 1 and "losses" in told[0] and "peft 0.0.1 (now " in told[0]
    assert stages(out) == before
    assert main(["report", "--run", str(out)]) == 0
    assert read_json(out / "report" / "report.json")["versions"]["peft"].endswith("and 0.0.1")


def test_answers_used_again_keep_what_they_took(pool_folder: Path, tmp_path: Path) -> None:
    more = ["--selector", "Random", "--annotator", "FromPool"]
    assert select(pool_folder, tmp_path, *more) == 0
    known = stages(tmp_path)["annotations"]
    assert select(pool_folder, tmp_path, *more) == 0
    assert stages(tmp_path)["annotations"] == known
