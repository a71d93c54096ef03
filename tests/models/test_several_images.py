"""Records with several images in models whose chat template takes several, and in one that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from presel_lightning.callbacks import Benchmark
from presel_lightning.cli.main import main
from presel_lightning.data.conversation import parse
from presel_lightning.data.images import open_rgb
from presel_lightning.data.pool import load_pool
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.loading.chat_encoder import ChatEncoder
from presel_lightning.loading.datamodule import SelectionDataModule
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models import load_model, processor_of
from presel_lightning.models.chat import chat_processor
from presel_lightning.models.forward import answer_losses
from presel_lightning.models.llava import unwrapped
from presel_lightning.models.own_processor import load_chat_processor
from presel_lightning.quickstart.world import generate
from presel_lightning.signals import Signals
from presel_lightning.tasks import FineTune
from tests.conftest import benchmark_arguments, fit_arguments
from tests.models.tiny_chat import MODELS, encode_chat, write_chat_model
from tests.models.tiny_kinds import KINDS, write_kind

ASKED = "First: <image>\nSecond: <image>\nWhat </s> differs?"


def says(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)
    ]


def mixed(folder: Path) -> Path:
    """A pool of records with one image, with two and three, and without any; and such a test file."""
    generate(folder, seed=7, sizes={"colour": 8, "shape": 8}, test_per_task=2)
    for name in ("train", "test"):
        records = json.loads((folder / f"{name}.json").read_text())
        images = [record["image"] for record in records]
        for number, record in enumerate(records):
            if number % 2:
                record["image"] = [images[number], images[number - 1]]
                record["conversations"] = says(ASKED, "the colour")
        records[1]["image"].append(images[3])
        asked = "<image>Here. <image>", "yes", "And <image>?", "no"
        records[1]["conversations"] = says(*asked)
        if name == "train":
            records.append({"id": "text", "conversations": says("Hi", "Hello")})
        (folder / f"{name}.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed(tmp_path_factory.mktemp("mixed") / "pool")


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_chat_model(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def command(checkpoint: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a finished run, its folder at the end."""
    out = tmp_path_factory.mktemp("run") / "run"
    more = ["--model.checkpoint", checkpoint, "--data.template", "auto", "--model.lora.r", "4"]
    more += ["--data.reference", "6", "--data.budget", "10", "--data.micro_batch_size", "3"]
    more += ["--data.several_images", "keep", "--data.text_only", "true"]
    made = fit_arguments(folder, out, *benchmark_arguments(folder), *more)
    assert main(made) == 0
    return [*made, str(out)]


def pictures(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(n)
    sizes = [(24, 16), (16, 32), (40, 24)][:n]
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def test_images_stand_in_the_text_as_the_processor_itself_puts_them(checkpoint: str) -> None:
    """Against messages that are written by hand and given to the processor."""
    own = load_chat_processor(checkpoint)
    record = {"image": ["a", "b"], "conversations": says(ASKED.replace("</s> ", ""), "the hue")}
    images = pictures(2)
    found = encode_chat(own, parse(record), images)
    asked = [
        {"type": "text", "text": "First: "},
        {"type": "image"},
        {"type": "text", "text": "\nSecond: "},
        {"type": "image"},
        {"type": "text", "text": "\nWhat differs?"},
    ]
    chat = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "text", "text": "the hue"}]},
    ]
    text = own.apply_chat_template(chat, tokenize=False)
    expected = own(images=[images], text=[text], return_tensors="pt")
    ids = found["input_ids"][0]
    assert ids.tolist() == expected["input_ids"][0, : len(ids)].tolist()
    assert torch.equal(found["pixel_values"], expected["pixel_values"])


def test_answers_alone_show_all_images(checkpoint: str) -> None:
    own = load_chat_processor(checkpoint)
    record = {
        "image": ["a", "b", "c"],
        "conversations": says("<image>x<image>", "A", "<image>", "B"),
    }
    whole, bare = (
        encode_chat(own, parse(record), pictures(3), with_question=side) for side in (True, False)
    )
    assert torch.equal(whole["pixel_values"], bare["pixel_values"])
    places = [int((made["input_ids"] == own.image_token_id).sum()) for made in (whole, bare)]
    assert places[0] == places[1] > 0
    assert "A B" in own.tokenizer.decode(bare["input_ids"][0])


def test_chat_encoder_takes_several_and_llava_does_not(checkpoint: str, folder: Path) -> None:
    assert ChatEncoder(chat_processor(checkpoint), 99).takes_several
    silent = chat_processor(checkpoint)
    silent.own.chat_template = silent.own.chat_template.replace(
        "for c in m.content", "for c in m.content[:2]"
    )
    assert not ChatEncoder(silent, 99).takes_several


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_a_mixed_batch_equal_single_samples(kind: str, tmp_path: Path) -> None:
    """Every architecture that docs/models.md names; against transformers' own loss."""
    place = write_kind(kind, tmp_path / "model")
    encoder, model = (
        encoder_of("auto", processor_of(place), 999),
        load_model(place, dtype="float32"),
    )
    assert encoder.takes_several
    records: list[dict[str, Any]] = [
        {
            "image": ["a", "b", "c"],
            "conversations": says("1 <image> 2 <image>?", "A", "<image>", "B"),
        },
        {"image": "a", "conversations": says("<image>\nQ?", "a cat")},
        {"conversations": says("Q?", "C")},
        {"image": ["a", "b"], "conversations": says(ASKED, "a long answer")},
    ]
    shown = [pictures(3), pictures(1), None, pictures(2)]
    parts = [encoder.sample(parse(r), i) for r, i in zip(records, shown, strict=True)]
    with torch.no_grad():
        sums, counts = answer_losses(model, encoder.batch(parts))
        for row, part in enumerate(parts):
            alone = {n: v for n, v in encoder.batch([part]).items() if n != "blank"}
            loss = unwrapped(model)(**alone).loss
            torch.testing.assert_close(sums[row] / counts[row], loss, rtol=1e-4, atol=1e-4)


def test_fit_trains_scores_and_answers(command: list[str], folder: Path) -> None:
    out = Path(command[-1])
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert {stage["status"] for stage in stages.values()} == {"done"}
    chosen = json.loads((out / "selection" / "selected.json").read_text())
    records = {r["id"]: r for r in json.loads((folder / "train.json").read_text())}
    assert len(chosen) == 10 and any(isinstance(record["image"], list) for record in chosen)
    assert all(record["image"] == records[record["id"]]["image"] for record in chosen)
    assert json.loads((out / "benchmark.json").read_text())["final"]["tiny"] is not None


def test_features_are_mean_directions_of_their_images(command: list[str], folder: Path) -> None:
    """Each image is shown alone too, or its feature lies in `parts.npy`."""
    out = Path(command[-1])
    place = out / "signals" / "features"
    pool = load_pool(out, folder)
    rows = np.load(place / "features.npy")
    table = pq.read_table(place / "images.parquet").to_pydict()
    each = np.concatenate([rows, np.load(place / "parts.npy")])
    feature = {image: each[row] for image, row in zip(table["image"], table["row"], strict=True)}
    uids = np.load(place / "uid.npy").astype(str).tolist()
    seen = 0
    for row in range(len(pool)):
        total = np.zeros(rows.shape[1])
        for image in pool.images(row):
            one = feature[image].astype(float)
            total += one / np.sqrt((one**2).sum()) / len(pool.images(row))
        expected = total / np.sqrt((total**2).sum())
        np.testing.assert_allclose(rows[uids.index(pool.uid[row])], expected, atol=1e-5)
        seen += len(pool.images(row)) > 1
    assert seen == 8 and len(set(table["image"])) == 16
    alone = {str(image) for image in pool.image[[u not in pool.several for u in pool.uid]]}
    assert {i for i, row in zip(table["image"], table["row"], strict=True) if row < 16} == alone


def test_paired_losses_match_transformers(command: list[str], folder: Path) -> None:
    out = Path(command[-1])
    pool = load_pool(out, folder)
    tuned = FineTune(str(out / "models" / "reference"), tune="none", dtype="float32")
    tuned.configure_model()
    scored = pq.read_table(out / "signals" / "paired_loss.parquet").to_pylist()
    assert any(sample["uid"] in pool.several for sample in scored)
    for sample in scored:
        row = int(pool.rows([sample["uid"]])[0])
        turns, images = pool.sample(row).turns, list(map(open_rgb, pool.image_paths(row)))
        for side in ("with_question", "without_question"):
            batch = encode_chat(
                tuned.processor.own, turns, images, with_question=side == "with_question"
            )
            with torch.no_grad():
                loss = float(unwrapped(tuned.model)(**batch).loss)
            assert sample[f"loss_{side}"] == pytest.approx(loss, rel=1e-4)


def test_pair_lengths_equal_the_batch_lengths(command: list[str], folder: Path) -> None:
    data = SelectionDataModule(str(folder / "train.json"), batch_size=6, num_workers=0)
    data.pool = load_pool(Path(command[-1]), folder)
    tuned = FineTune(str(Path(command[-1]) / "models" / "reference"), tune="none")
    tuned.configure_model()
    data.pair_up(data.pool.uid, tuned.processor)
    pairs: Any = data.dataset
    for index, length in enumerate(pairs.lengths()):
        batch = pairs.collate([pairs[index, 1.0]])
        sides = [batch[side]["input_ids"] for side in ("with_question", "without_question")]
        assert sum(side.shape[1] for side in sides) == length


def test_generation_does_not_depend_on_the_batch(command: list[str], folder: Path) -> None:
    """Questions see the images that are shown up to them."""
    tuned = FineTune(str(Path(command[-1]) / "models" / "final"), tune="none", dtype="float32")
    tuned.configure_model()
    items = AnnotationFile(str(folder / "test.json")).items()
    assert [len(item.images) for item in items] == [1, 2, 3, 1, 2]
    scorer = Benchmark([])
    together = tuned.generate(scorer.prompts(items, tuned.processor), 6)
    alone = [tuned.generate(scorer.prompts([i], tuned.processor), 6)[0] for i in items]
    assert together == alone and any(together)


def test_features_of_images_in_several_are_used_again(command: list[str], folder: Path) -> None:
    """A new record shows alone what was shown among several only: nothing is embedded again."""
    records = json.loads((folder / "train.json").read_text())
    new = {**records[0], "id": "new", "image": records[1]["image"][0]}
    more = folder / "more.json"
    more.write_text(json.dumps([*records, new]))
    again = command[:-1]
    again[again.index("--data.annotations") + 1] = str(more)
    assert main(["select", *again[1:]]) == 0
    facts = json.loads((Path(command[-1]) / "run.json").read_text())["stages"]["features"]
    assert (facts["images"], facts["reused"]) == (16, 16)


def test_selectors_ask_about_all_images_and_compare_single_ones(
    command: list[str], folder: Path
) -> None:
    """Cvs shows a model all images of a record; an image-text encoder compares one with its text."""
    for selector in ("Cvs", "ClipScore"):
        again = [*command[1:-1], "--selector", selector]
        assert main(["select", *again]) == 0
    out = Path(command[-1])
    pool = load_pool(out, folder)
    rows, signals = np.arange(len(pool)), Signals(out / "signals")
    assert np.isfinite(signals.answer_validity(pool, rows, "with_question")).all()
    found = signals.clip_similarity(pool, rows, "similarity")
    several = [uid in pool.several for uid in pool.uid]
    assert np.isnan(found).tolist() == several and any(several)


def test_a_model_of_one_image_refuses_them_before_anything_is_fitted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fit_arguments(folder, tmp_path / "run", "--data.several_images", "keep")
    assert main(made) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "8 records have several images" in said and "data.several_images to refuse" in said
    assert not (tmp_path / "run" / "models").exists()
    scored = fit_arguments(folder, tmp_path / "scored", *benchmark_arguments(folder))
    assert main([*scored, "--data.max_problem_fraction", "1"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "3 items of the benchmark tiny have several images" in said
    assert not (tmp_path / "scored" / "models").exists()
    assert main(["check", *made[1:]]) == 2
    assert "8 records have several images" in " ".join(capsys.readouterr().err.split())
