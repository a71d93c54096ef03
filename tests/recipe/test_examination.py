"""What `check` finds in the samples, `fit` says before its first stage, and the other way round."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PixtralImageProcessorPil,
    PixtralVisionConfig,
)

from presel_lightning.cli.main import main
from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.quickstart.world import generate


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 12 images; the first question is long, the second so long that its answer is cut.

    Beside it two text-only records, one of them with such a question.
    """
    folder = tmp_path_factory.mktemp("few") / "pool"
    generate(folder, seed=7, sizes={"colour": 6, "shape": 6}, test_per_task=1)
    records = json.loads((folder / "train.json").read_text())
    for record, n in zip(records, (20, 400), strict=False):
        record["conversations"][0]["value"] += " and so on" * n
    records[2]["conversations"] += [
        {"from": "human", "value": "again, " * 200},
        {"from": "gpt", "value": "yes"},
    ]
    for name, n in (("short", 1), ("long", 400)):
        said = [{"from": "human", "value": "and so on " * n}, {"from": "gpt", "value": "yes"}]
        records.append({"id": name, "conversations": said})
    (folder / "train.json").write_text(json.dumps(records))
    return folder


def words(few: Path, out: Path, *more: str) -> list[str]:
    given = ["--data.annotations", str(few / "train.json"), "--data.budget", "1.0"]
    given += ["--selector", "Random", "--baselines", "[]", "--benchmarks", "[]"]
    given += ["--trainer.max_epochs", "1", "--data.num_workers", "0", "--out", str(out)]
    return ["--config", "quickstart.yaml", *given, *more]


def test_answers_cut_off_are_counted_and_an_empty_one_is_not_trained_on(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [record["id"] for record in json.loads((few / "train.json").read_text())]
    short = ["--data.max_length", "600", "--data.text_only", "true"]
    assert main(["check", *words(few, tmp_path / "no", *short)]) == 0
    checked = capsys.readouterr().out
    assert main(["fit", *words(few, tmp_path / "run", *short)]) == 0
    fitted = capsys.readouterr().out
    for said in (checked, fitted):
        assert "data.max_length 600 cuts off answers of 2 of 12 samples" in said
        assert f"{names[1]} (0 of" in said and "1 of them keep no answer token" in said
    assert fitted.index("cuts off") < fitted.index("selection")
    assert "1 of 12 samples are not trained on" in fitted
    run = json.loads((tmp_path / "run/run.json").read_text())
    final = run["stages"]["final"]
    assert (final["samples"], final["without_answer"]) == (12, 1)
    assert "1 of 2 text-only records are not trained on" in fitted
    assert (final["text_only"], final["texts_without_answer"]) == (1, 1)
    assert any("cuts off" in notice for notice in run["notices"])


def test_nothing_left_to_learn_is_refused(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *words(few, tmp_path / "run", "--data.max_length", "14")]) == 2
    said = capsys.readouterr().err
    assert "data.max_length" in said and "raise it" in said


def test_model_of_type_llava_on_another_tower_is_refused_by_check_and_fit(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    sizes: dict[str, Any] = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=PixtralVisionConfig(hidden_size=16, image_size=64, patch_size=8, **sizes),
        text_config=LlamaConfig(vocab_size=800, hidden_size=16, **sizes),
        image_token_index=3,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(model)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(CHECKPOINT / file, model / file)
    (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }}{% endfor %}")
    images = PixtralImageProcessorPil(
        size={"longest_edge": 64}, patch_size={"height": 8, "width": 8}
    )
    images.save_pretrained(model)
    for command in ("check", "fit"):
        more = ["--model.checkpoint", str(model), "--data.template", "auto"]
        assert main([command, *words(few, tmp_path / command, *more)]) == 2
        assert "with a pixtral vision tower cannot be tuned here" in capsys.readouterr().err
    assert not (tmp_path / "fit/selection").exists()
