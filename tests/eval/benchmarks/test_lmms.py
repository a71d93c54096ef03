from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageFile

from presel_lightning.data.annotations import read_records
from presel_lightning.data.conversation import parse
from presel_lightning.data.images import open_rgb
from presel_lightning.errors import UserError
from presel_lightning.eval.benchmarks import lmms
from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
from presel_lightning.eval.benchmarks.lmms import LMMSEval
from presel_lightning.eval.benchmarks.lmms_answers import answers_of
from presel_lightning.eval.benchmarks.predictions import read_predictions
from presel_lightning.eval.intervals.resampling import paired_intervals, score_intervals
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.loading.tokens import encode
from presel_lightning.models.llava import unwrapped
from presel_lightning.quickstart.world import generate
from presel_lightning.records import Turn
from presel_lightning.tasks import FineTune
from tests.conftest import start
from tests.optional import require
from tests.ranks import free_port

needs_lmms = pytest.mark.usefixtures("lmms_eval")

YAML = """\
task: {name}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {kind}
doc_to_visual: image
doc_to_text: question
"""
WORDS = """\
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 32
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: true
"""
CHOICES = """\
doc_to_target: target
doc_to_choice: choices
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
GROUP = """\
group: both
task:
  - words
  - words_too
aggregate_metric_list:
  - metric: exact_match
    aggregation: mean
    weight_by_size: true
"""
BROKEN = WORDS + "process_results: !function judge.fails\n"
TORN = WORDS + "doc_to_visual: !function judge.torn\n"
JUDGE = """\
def fails(doc, results):
    raise OSError("the judge is asleep")

def torn(doc):
    if doc["question"] == "FIRST":
        raise OSError("torn image")
    return [doc["image"]]
"""


@pytest.fixture(scope="module")
def lmms_eval() -> None:
    require("lmms_eval")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmms") / "pool"
    generate(folder, seed=3, sizes={"colour": 8, "shape": 8, "count": 8}, test_per_task=7)
    return folder


@pytest.fixture(scope="module")
def tasks(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three tasks over 21 items, and the same items as an annotation file."""
    folder = tmp_path_factory.mktemp("tasks")
    records = [record for record in read_records(pool / "test.json") if record["task"] != "caption"]
    rows = [row_of(record, records, pool) for record in records]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = pa.table({**columns, "image": pa.array(columns["image"], type=image)})
    features = {"image": {"_type": "Image"}} | {
        name: {"dtype": "string", "_type": "Value"} for name in ("question", "answer")
    }
    features["choices"] = {"feature": features["answer"], "_type": "List"}  # type: ignore[dict-item]
    features["target"] = {"dtype": "int64", "_type": "Value"}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), folder / "items.parquet")
    generated = YAML.format(name="{name}", data="items.parquet", kind="generate_until")
    (folder / "words.yaml").write_text(generated.format(name="words") + WORDS)
    (folder / "words_too.yaml").write_text(generated.format(name="words_too") + WORDS)
    (folder / "both.yaml").write_text(GROUP)
    (folder / "broken.yaml").write_text(generated.format(name="broken") + BROKEN)
    chosen = YAML.format(name="choices", data="items.parquet", kind="multiple_choice")
    (folder / "choices.yaml").write_text(chosen + CHOICES)
    (folder / "torn.yaml").write_text(generated.format(name="torn") + TORN)
    (folder / "judge.py").write_text(JUDGE.replace("FIRST", rows[0]["question"]))
    # one task for all, as lmms-eval averages over items
    same = [{k: v for k, v in record.items() if k != "task"} for record in records]
    (folder / "words.json").write_text(json.dumps(same))
    return folder


def row_of(record: dict[str, Any], records: list[dict[str, Any]], pool: Path) -> dict[str, Any]:
    turn = parse(record)[0]
    alike = [parse(other)[0].answer for other in records if other["task"] == record["task"]]
    choices = sorted(set(alike))
    image = io.BytesIO()
    open_rgb(pool / record["image"]).save(image, "PNG")
    return {
        "image": {"bytes": image.getvalue(), "path": None},
        "question": turn.question,
        "answer": turn.answer,
        "choices": choices,
        "target": choices.index(turn.answer),
    }


def run(pool: Path, tasks: Path, out: Path, devices: int) -> dict[str, Any]:
    """Fit and score in processes of their own, without a network."""
    script = Path(__file__).with_name("lmms_fit.py")
    out.mkdir()
    done = subprocess.run(
        [sys.executable, str(script), str(pool), str(tasks), str(out), str(devices)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": "."}
        | {"MASTER_PORT": str(free_port())},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "told").write_text(done.stdout)
    scores: dict[str, Any] = json.loads((out / "scores.json").read_text())["benchmarks"]
    return scores


@pytest.fixture(scope="module")
def one(pool: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "out"
    run(pool, tasks, out, 1)
    return out


def of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scores.json").read_text())["benchmarks"]
    return {name: {**score, "seconds": None} for name, score in found.items()}


@needs_lmms
def test_lmms_generation_score_equals_annotation_file(one: Path) -> None:
    scores = of(one)
    assert scores["words"]["score"] == scores["ours"]["score"]
    assert scores["words"]["n"] == scores["ours"]["n"] == 21
    assert 0 < scores["words"]["score"] < 100, "a score that tells right from wrong"
    assert scores["words"]["items"] == scores["ours"]["items"]
    assert scores["words"]["item_ids"] == [f"words {number}" for number in range(21)]


@needs_lmms
def test_lmms_predictions_of_a_generation_task_equal_annotation_file(one: Path) -> None:
    kept = read_predictions(one / "predictions.parquet", "")
    assert list(kept) == ["words", "choices", "broken+words", "ours"], "none of a task that failed"
    for column in ("question", "answer", "prediction", "credit"):
        assert kept["words"][column].to_pylist() == kept["ours"][column].to_pylist(), column
    assert kept["words"]["item"].to_pylist() == [f"words {number}" for number in range(21)]
    assert set(kept["broken+words"]["task"].to_pylist()) == {"words"}


@needs_lmms
def test_lmms_predictions_of_a_choice_are_its_options(one: Path, tasks: Path) -> None:
    rows = read_predictions(one / "predictions.parquet", "")["choices"].to_pylist()
    items = pq.read_table(tasks / "items.parquet").to_pylist()
    assert [row["question"] for row in rows] == [item["question"] for item in items]
    assert [row["answer"] for row in rows] == [item["answer"] for item in items]
    for row, item in zip(rows, items, strict=True):
        assert row["prediction"] in item["choices"]
        assert row["credit"] == float(row["prediction"] == row["answer"])


def test_lmms_answers_leave_empty_what_is_not_logged() -> None:
    samples: list[dict[str, Any]] = [
        {"doc_id": 0, "target": ["red", "crimson"], "filtered_resps": ["blue"], "arguments": []},
        {"doc_id": 1, "target": None, "filtered_resps": [["a", "b"]], "arguments": [7]},
        {"doc_id": 1, "target": "of a second filter", "filtered_resps": ["c"], "arguments": ["?"]},
        # two options, of which a function has made the second: no text of it is logged
        {"doc_id": 2, "target": 1, "filtered_resps": [(0.5, True), (0.2, False)], "arguments": ["?", "x", "?"]},
    ]  # fmt: skip
    found = answers_of(samples, "t", {"0": 1.0})
    assert [(a.item, a.question, a.expected, a.prediction, a.credit) for a in found] == [
        ("t 0", "", "red; crimson", "blue", 1.0),
        ("t 1", "", "", "a; b", None),
        ("t 2", "?", "1", "", None),
    ]


@needs_lmms
def test_lmms_scores_have_intervals(one: Path) -> None:
    scores = {"benchmarks": of(one)}
    ends = score_intervals({"final": scores})["final"]
    assert set(ends) == {"words", "choices", "ours"}, "none where a task failed"
    for name, (low, high) in ends.items():
        assert low < scores["benchmarks"][name]["score"] < high
    rows = paired_intervals({"final": scores, "random": scores})
    assert [(row["low"], row["difference"], row["high"]) for row in rows] == [(0.0, 0.0, 0.0)] * 3


@needs_lmms
def test_lmms_failing_task_reports_cause_and_keeps_others(one: Path) -> None:
    found = of(one)["broken+words"]
    assert found["score"] is None
    assert found["reasons"] == {"broken": "OSError: the judge is asleep"}
    assert found["tasks"] == {"words": of(one)["words"]["score"]}
    assert "broken has no score: OSError: the judge is asleep" in (one / "told").read_text()


@needs_lmms
def test_lmms_unreadable_image_is_reported(one: Path) -> None:
    assert of(one)["torn"]["reasons"] == {"torn": "OSError: torn image"}


@needs_lmms
def test_lmms_scores_during_training_are_logged(one: Path) -> None:
    with (one / "log" / "metrics.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if row.get("benchmark/words")]
    assert [row["step"] for row in rows] == ["1", "2"]
    assert float(rows[1]["benchmark/words"]) == of(one)["words"]["score"]


@needs_lmms
@pytest.mark.slow
def test_lmms_two_processes_score_as_one(
    one: Path, pool: Path, tasks: Path, tmp_path: Path
) -> None:
    """All of them take part, and a task that fails on one of them leaves none waiting."""
    run(pool, tasks, tmp_path / "two", 2)
    assert of(tmp_path / "two") == of(one)


@needs_lmms
@pytest.mark.slow
def test_evaluate_lmms_on_two_processes_matches_one(tasks: Path, tmp_path: Path) -> None:
    """The command starts the second process itself; YAML names the class alone."""
    folder = json.dumps({"tasks": ["words"], "include_path": str(tasks), "batch_size": 5})
    more = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--benchmarks"]
    more += [f"[{{class_path: LMMSEval, init_args: {folder}}}]", "--out", str(tmp_path / "out")]
    arguments = ["evaluate", "--config", "quickstart.yaml", "--checkpoint", "quickstart", *more]
    assert start(arguments, tmp_path / "log").wait() == 0, (tmp_path / "log").read_text()
    assert len(re.findall("words: [0-9]", (tmp_path / "log").read_text())) == 1
    file = tmp_path / "out" / "work" / "scores" / "evaluate-quickstart.json"
    found = json.loads(file.read_text())["benchmarks"]["words"]
    module = FineTune("quickstart", tune="none", dtype="float32")
    module.configure_model()
    alone = scored(module, LMMSEval(["words"], str(tasks), batch_size=5))
    assert {**found, "seconds": None} == {**alone, "seconds": None}


@needs_lmms
def test_lmms_group_has_a_score_without_credits(tasks: Path) -> None:
    module = FineTune("quickstart", tune="none", dtype="float32")
    module.configure_model()
    both, words = (scored(module, LMMSEval([name], str(tasks))) for name in ("both", "words"))
    assert both["score"] == words["score"] and "items" not in both


@needs_lmms
def test_lmms_choices_match_one_by_one_scoring(pool: Path, tasks: Path) -> None:
    """One choice, one pass, transformers' own loss; and our own scorer on what was chosen."""
    from tests.eval.benchmarks.lmms_fit import BATCH

    module = FineTune("quickstart", tune="none", dtype="float32")
    module.configure_model()
    ours = AnnotationFile(str(tasks / "words.json"), str(pool))
    choices = pq.read_table(tasks / "items.parquet")["choices"].to_pylist()
    guesses = [
        min(offered, key=lambda choice: loss(module, item.question, choice, open_rgb(item.image)))
        for item, offered in zip(ours.items(), choices, strict=True)
    ]
    found = scored(module, LMMSEval(["choices"], str(tasks), batch_size=BATCH))
    assert found["score"] == round(ours.score(guesses).score, 4)
    assert 0 < found["score"] < 100


def scored(module: FineTune, benchmark: LMMSEval) -> dict[str, Any]:
    from lightning import Trainer

    from presel_lightning.callbacks import Benchmark

    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    return Benchmark([benchmark], "vicuna_bare").run(trainer, module)[benchmark.name]


def loss(module: FineTune, question: str, choice: str, image: Image.Image) -> float:
    rendered = TEMPLATES["vicuna_bare"].render([Turn(question, choice)], with_question=True)
    processor = module.processor
    encoded = encode(rendered, processor.tokenizer, processor.n_image_tokens, 2048)
    with torch.no_grad():
        found = unwrapped(module.model)(
            input_ids=torch.tensor([encoded.input_ids]),
            labels=torch.tensor([encoded.labels]),
            pixel_values=processor.pixels(image)[None],
        ).loss
    return float(found)


@needs_lmms
def test_lmms_scoring_during_training_keeps_the_weights(
    one: Path, pool: Path, tmp_path: Path
) -> None:
    from tests.eval.benchmarks.lmms_fit import fit

    module = fit(pool, tmp_path, 1)
    total = sum(float(p.detach().double().sum()) for p in module.parameters())
    assert total == json.loads((one / "weights.json").read_text())


@needs_lmms
def test_lmms_examine_leaves_pillow_refusing_truncated_images(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    LMMSEval(["words"], include_path=str(tasks)).examine()
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@needs_lmms
def test_lmms_unknown_task_raises_before_training(tasks: Path) -> None:
    with pytest.raises(UserError, match="has no task wrods or in"):
        LMMSEval(["wrods"], str(tasks)).examine()
    with pytest.raises(UserError, match="no such folder"):
        LMMSEval(["words"], str(tasks / "nowhere")).examine()


def test_lmms_other_version_raises_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms, "PINNED", "0.0.1")
    with pytest.raises(UserError, match=r"install presel-lightning\[lmms\]"):
        LMMSEval(["pope"]).examine()


@needs_lmms
def test_lmms_judge_without_key_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = scored(FineTune("quickstart", tune="none"), LMMSEval(["MM-Vet"]))
    assert found["score"] is None and "OPENAI_API_KEY" in found["reasons"]["MM-Vet"]


@pytest.mark.parametrize(
    ("values", "metric", "reason"),
    [
        ({"alias": "t", "acc,none": 0.5, "acc_stderr,none": "N/A"}, "f1", "there are acc"),
        ({"submission,none": None}, None, "None, not a number"),
        ({"perplexity,none": 3.0}, None, "lower is better"),
        ({"alias": "t"}, None, "of a group"),
    ],
)
def test_lmms_invalid_score_raises_value_error(
    values: dict[str, Any], metric: str | None, reason: str
) -> None:
    results = {"results": {"t": values}, "higher_is_better": {"t": {"perplexity": False}}}
    with pytest.raises(ValueError, match=reason):
        lmms.picked(results, lmms.Target("t", "t", metric, 100))


@pytest.mark.parametrize(
    ("said", "credit"),
    [
        ([1.0, 0.5], {"0": 1.0, "1": 0.5}),
        ([True, False], {"0": 1.0, "1": 0.0}),
        ([{"score": 1.0}, {"score": 0.0}], None),  # as POPE and MME have it
        ([1.0, float("nan")], None),
        ([1.0, None], None),
    ],
)
def test_lmms_credits_of_accepts_only_numbers(
    said: list[Any], credit: dict[str, float] | None
) -> None:
    samples = [{"doc_id": number, "acc": value} for number, value in enumerate(said)]
    assert lmms.credits_of(samples, "acc", 100.0) == credit
    assert lmms.credits_of([*samples, *samples], "acc", 100.0) is None  # two filters


def test_lmms_items_of_several_tasks_give_the_mean() -> None:
    found = {
        "a": lmms.Found(75.0, 4, {"0": 1.0, "1": 1.0, "2": 1.0, "3": 0.0}),
        "b": lmms.Found(0.5, 2, lmms.credits_of([{"doc_id": 0, "m": 0.5}], "m", 1.0)),
    }
    part = {"score": 37.75, **lmms.items_kept(found)}
    assert part["item_ids"] == ["a 0", "a 1", "a 2", "a 3", "b 0"]
    assert list(score_intervals({"final": {"benchmarks": {"both": part}}})["final"]) == ["both"]
    assert lmms.items_kept({**found, "c": lmms.Found(5.0, 1, None)}) == {}


def test_lmms_columns_define_task_metric_and_scale() -> None:
    [target] = LMMSEval(["POPE"]).targets()
    assert (target.task, target.metric, target.scale) == ("pope", "pope_f1_score", 100)
    [target] = LMMSEval(["MME"]).targets()
    assert (target.metric, target.scale) == ("mme_perception_score", 1)


def test_lmms_fingerprint_depends_on_the_task_folder(tasks: Path) -> None:
    benchmark = LMMSEval(["words"], str(tasks))
    before = benchmark.fingerprint()
    other = LMMSEval(["words"], str(tasks), limit=3)
    assert other.fingerprint() != before
    (tasks / "note.txt").write_text("new")
    assert benchmark.fingerprint() != before
    (tasks / "note.txt").unlink()
    assert benchmark.fingerprint() == before
