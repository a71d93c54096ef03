"""A Hugging Face dataset that `datasets` decodes and a processor's chat template understands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from presel_lightning.cli.main import main
from presel_lightning.export.selection import parquet_shards, trl
from presel_lightning.models.vicuna import chat_template
from presel_lightning.quickstart import CHECKPOINT
from presel_lightning.records import Turn
from tests.optional import require


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trl") / "out"
    assert main(["export", "--run", str(finished), "--to", "trl", "--path", str(out)]) == 0
    return out


def test_trl_export_round_trip_keeps_images_and_messages(
    exported: Path, selected: list[dict[str, Any]], pool_folder: Path, tmp_path: Path
) -> None:
    rows = load_dataset(str(exported), split="train", cache_dir=str(tmp_path))
    assert [row["uid"] for row in rows] == [each["uid"] for each in selected]
    for row, record in zip(rows, selected, strict=True):
        (image,) = row["images"]
        with Image.open(pool_folder / record["image"]) as original:
            assert image.tobytes() == original.tobytes()
        assert row["task"] == record["task"]
        first = row["messages"][0]
        assert [part["type"] for part in first["content"]] == ["image", "text"]
        answers = [m["content"][0]["text"] for m in row["messages"] if m["role"] == "assistant"]
        assert answers == [each["value"] for each in record["conversations"][1::2]]


def test_trl_export_messages_render_with_a_chat_template(
    exported: Path, selected: list[dict[str, Any]], tmp_path: Path
) -> None:
    rows = load_dataset(str(exported), split="train", cache_dir=str(tmp_path))
    chats = [row["messages"] for row in rows]
    tokenizer: Any = AutoTokenizer.from_pretrained(CHECKPOINT)
    texts = tokenizer.apply_chat_template(
        chats, chat_template=chat_template(tokenizer), tokenize=False
    )
    for text, record in zip(texts, selected, strict=True):
        question, answer = (entry["value"] for entry in record["conversations"][:2])
        assert f"USER: {question} ASSISTANT: {answer}</s>" in text


def test_trl_export_trains_with_sft_trainer(
    exported: Path, selected: list[dict[str, Any]], tmp_path: Path
) -> None:
    trl = require("trl")
    model: Any = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT)
    tokenizer: Any = AutoTokenizer.from_pretrained(CHECKPOINT)
    processor: Any = LlavaProcessor(
        AutoImageProcessor.from_pretrained(CHECKPOINT, backend="pil"),
        tokenizer,
        patch_size=model.config.vision_config.patch_size,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
        chat_template=chat_template(tokenizer),
        num_additional_image_tokens=1,  # [CLS]
    )
    trainer = trl.SFTTrainer(
        model=model,
        processing_class=processor,
        train_dataset=load_dataset(str(exported), split="train", cache_dir=str(tmp_path / "cache")),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "out"),
            assistant_only_loss=True,
            max_length=None,
            max_steps=1,
            per_device_train_batch_size=4,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        ),
    )
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    for labels, record in zip(batch["labels"], selected, strict=False):
        answers = [turn["value"] for turn in record["conversations"][1::2]]
        learnt = tokenizer.decode(labels[labels >= 0])
        assert learnt == "".join(f" {answer}{tokenizer.eos_token}" for answer in answers)
    places = (batch["input_ids"] == model.config.image_token_id).sum(1)
    assert len(batch["pixel_values"]) == 4 and len(set(places.tolist())) == 1 and places[0] > 1
    assert math.isfinite(trainer.train().training_loss)


def test_trl_export_limits_row_groups_and_file_size(
    finished: Path, selected: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_shards, "GROUP_ROWS", 4)
    monkeypatch.setattr(trl.Trl, "shard_bytes", 1)
    out = tmp_path / "out"
    assert main(["export", "--run", str(finished), "--to", "trl", "--path", str(out)]) == 0
    files = sorted((out / "data").iterdir())
    assert [file.name for file in files[:2]] == ["train-00000.parquet", "train-00001.parquet"]
    assert len(files) == -(-len(selected) // 4)
    assert {pq.ParquetFile(file).num_row_groups for file in files} == {1}
    rows = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["uid"] for row in rows] == [each["uid"] for each in selected]


def test_trl_messages_without_question_hold_only_the_image() -> None:
    asked, answered = trl.messages(Turn("", "a cat"), image=True)
    assert asked["content"] == [{"type": "image", "text": None}]
    assert answered["content"] == [{"type": "text", "text": "a cat"}]
