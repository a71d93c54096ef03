"""`check` names each later failure in advance, and its figures of a valid run are correct."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from presel_lightning import quickstart
from presel_lightning.check import Throughput, examine
from presel_lightning.cli.main import main
from tests.check.running import figure, recipe_of, records_of, refused, rewrite, run_check
from tests.conftest import N_POOL, SIZES, benchmark_arguments, fit_arguments
from tests.run.disk import Disk


def checkpoint_without(folder: Path, *names: str) -> Path:
    shutil.copytree(quickstart.CHECKPOINT, folder, ignore=shutil.ignore_patterns(*names))
    return folder


def test_check_valid_run_reports_its_figures_and_writes_nothing(
    pool_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    recipe = recipe_of(pool_folder, out, *benchmark_arguments(pool_folder))
    before = sorted(out.rglob("*"))
    report, screen = run_check(recipe)
    assert not report.failures and "nothing found" in screen
    assert sorted(out.rglob("*")) == before, "a check writes nothing"
    assert figure(report, "records", "with image and task") == str(N_POOL)
    assert {what for what, _ in report.facts["tasks"]} == set(SIZES)
    assert "reference 9, budget 32" in figure(report, "selection", "PreSel")
    assert figure(report, "benchmarks", "tiny").startswith("16")
    module = recipe.factory.model("final")
    module.configure_model()
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert f"{trained / 1e6:,.1f} M" in figure(report, "model", "trained (lora)")


def test_check_token_lengths_match_the_training_encoder(pool_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(pool_folder, tmp_path, "--data.max_length", "30")
    report, _ = run_check(recipe)
    recipe.pool()
    data = recipe.plan.data
    encoder = data.encoder(recipe.factory.model("final").processor)
    one_more = replace(encoder, max_length=31)
    turns = [data.pool.sample(row).turns for row in range(len(data.pool))]
    cut = sum(len(one_more(each).input_ids) == 31 for each in turns)
    assert 0 < cut < N_POOL
    assert figure(report, "tokens", "longer than 30: cut").startswith(f"{cut} ")


def test_check_missing_checkpoint_is_named(pool_folder: Path, tmp_path: Path) -> None:
    error = refused(recipe_of(pool_folder, tmp_path, "--model.checkpoint", "/nowhere/model"))
    assert "/nowhere/model" in error and "model.checkpoint" in error


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer*", "config.json"])
def test_check_incomplete_checkpoint_is_named(
    missing: str, pool_folder: Path, tmp_path: Path
) -> None:
    place = checkpoint_without(tmp_path / "model", missing)
    error = refused(recipe_of(pool_folder, tmp_path, "--model.checkpoint", str(place)))
    assert str(place) in error and "model.checkpoint" in error


def test_check_missing_shard_is_named(pool_folder: Path, tmp_path: Path) -> None:
    place = checkpoint_without(tmp_path / "model")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    error = refused(recipe_of(pool_folder, tmp_path, "--model.checkpoint", str(place)))
    assert "model-00002-of-00002.safetensors" in error


def test_check_missing_encoder_is_named(pool_folder: Path, tmp_path: Path) -> None:
    option = ["--stages.features.model", f"{{checkpoint: {tmp_path}/none}}"]
    assert f"{tmp_path}/none" in refused(recipe_of(pool_folder, tmp_path, *option))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"images": [{"id": 1}], "annotations": []}', "COCO's layout"),
        ('[{"id": 1, "image": "a.jpg"', "not JSON"),
        ('[["a.jpg", "What is it?"]]', "a record is an object"),
        ('[{"image": "a.jpg", "task": "a", "conversations": "hello"}]', "`conversations` is a str"),
        ("", "empty"),
    ],
)
def test_check_invalid_annotations_state_the_expected_format(
    text: str, names: str, pool_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "wrong.json").write_text(text)
    option = ["--data.annotations", str(tmp_path / "wrong.json")]
    error = refused(recipe_of(pool_folder, tmp_path / "run", *option))
    assert names in error and ("expected" in error)


def test_check_task_rules_without_match_count_the_records(
    pool_folder: Path, tmp_path: Path
) -> None:
    taken = sum("train-count" in record["image"] for record in records_of(pool_folder))
    rules = "[{task: counting, image: train-count}]"
    error = refused(recipe_of(pool_folder, tmp_path, "--data.task_rules", rules))
    assert 0 < taken < N_POOL and f"{N_POOL - taken} records have no task" in error
    assert "data.task_rules" in error and "images/" in error


def test_check_absent_task_key_is_named(pool_folder: Path, tmp_path: Path) -> None:
    error = refused(recipe_of(pool_folder, tmp_path, "--data.task_key", "task_name"))
    assert "none of the first 100 records" in error and "'task_name'" in error


def test_check_insufficient_disk_space_is_reported(pool_folder: Path, tmp_path: Path) -> None:
    """Adapters of that rank take gigabytes; on the meta device they take nothing."""
    disk = Disk(tmp_path, "8m")
    try:
        error = refused(recipe_of(pool_folder, tmp_path, "--model.lora.r", "65536"))
    finally:
        disk.unmount()
    assert "disk" in error and "GB" in error and str(tmp_path) in error


def test_check_image_root_without_images_is_named(pool_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    option = ["--data.image_root", str(tmp_path / "elsewhere")]
    error = refused(recipe_of(pool_folder, tmp_path / "run", *option))
    assert f"{tmp_path / 'elsewhere'} does not hold images/" in error and "130 of the 130" in error


def test_check_image_root_without_one_folder_names_it(pool_folder: Path, tmp_path: Path) -> None:
    def move(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records[:8]:
            record["image"] = record["image"].replace("images/", "ocr_vqa/images/")
        return records

    options = rewrite(pool_folder, tmp_path, move)
    error = refused(recipe_of(pool_folder, tmp_path / "one", *options))
    line = "does not hold ocr_vqa/: 8 of the 8"
    assert line in error
    more = ["--data.max_problem_fraction", "0.1"]
    report, _ = run_check(recipe_of(pool_folder, tmp_path / "two", *options, *more))
    assert any(line in note for note in report.notes)


def test_check_few_invalid_images_are_reported_without_failure(
    pool_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pool"
    shutil.copytree(pool_folder, folder)
    first, second = (folder / record["image"] for record in records_of(folder)[:2])
    first.write_bytes(b"not a picture")
    Image.new("RGB", (8, 8)).save(second, "GIF")  # a GIF under another name can be read
    report, _ = run_check(recipe_of(folder, tmp_path / "run"))
    assert figure(report, "images", "left out: not_an_image in images/").startswith("1 ")
    assert figure(report, "images", "records left out in all").startswith("1 ")


def test_check_truncated_images_are_found_by_decoding_a_sample(
    pool_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pool"
    shutil.copytree(pool_folder, folder)
    for record in records_of(folder)[::5]:
        data = (folder / record["image"]).read_bytes()
        (folder / record["image"]).write_bytes(data[: len(data) // 2])
    error = refused(recipe_of(folder, tmp_path / "run"))
    assert f"26 of {N_POOL} records would be left out" in error and "max_problem_fraction" in error
    monkeypatch.setattr(examine, "DECODED", 60)
    recipe = recipe_of(folder, tmp_path / "run2", "--data.max_problem_fraction", "0.9")
    report, _ = run_check(recipe)
    assert figure(report, "images", "decoded").startswith(f"60 of {N_POOL};")
    broken = int(figure(report, "images", "left out: truncated in images/").split()[0])
    assert 3 < broken < 30 and any(f"{broken} of 60 images" in note for note in report.notes)
    told = figure(report, "images", "records left out in all")
    assert int(told.split()[0]) == round(broken / 60 * N_POOL)


def test_check_records_in_another_format_are_rejected(pool_folder: Path, tmp_path: Path) -> None:
    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records:
            record["conversation"] = record.pop("conversations")
        return records

    changed = rewrite(pool_folder, tmp_path, change)
    assert "`conversation`" in refused(recipe_of(pool_folder, tmp_path / "run", *changed))
    arguments = fit_arguments(pool_folder, tmp_path / "run", *changed)
    for word in ("fit", "select", "check"):
        assert main([word, *arguments[1:]]) == 2


def test_check_counts_text_only_and_unannotated_records(pool_folder: Path, tmp_path: Path) -> None:
    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records[:3]:
            del record["image"]
            record["conversations"][0]["value"] = "Hello"
        del records[3]["conversations"]
        return records

    report, screen = run_check(
        recipe_of(pool_folder, tmp_path, *rewrite(pool_folder, tmp_path, change))
    )
    assert figure(report, "records", "text only, kept apart") == "3"
    assert figure(report, "records", "no instruction yet").startswith("1 ")
    assert "exit code 3" in screen


def test_check_text_only_training_adds_hours_and_tokens(pool_folder: Path, tmp_path: Path) -> None:
    long = "many words " * 200

    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        said = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": long}]
        return [*records, *({"id": str(n), "conversations": said} for n in range(32))]

    options = [*rewrite(pool_folder, tmp_path, change), "--baselines", "random"]
    speed = Throughput(32 / 3600, 9 / 3600, 130 / 3600)
    without, with_them = (
        run_check(
            recipe_of(pool_folder, tmp_path / on, *options, "--data.text_only", on),
            throughput=speed,
        )[0]
        for on in ("false", "true")
    )
    for report, final, what in (
        (without, "1.00", "kept apart"),
        (with_them, "2.00", "trained on beside the pool"),
    ):
        stages = ("final", "random", "reference", "losses")
        hours = [figure(report, "GPU-hours", stage) for stage in stages]
        assert hours == [final, final, "0.28", "1.00"]
        assert figure(report, "records", f"text only, {what}") == "32"
    longest = int(
        figure(with_them, "tokens", "of 32 text-only records").split()[-1].replace(",", "")
    )
    (memory,) = [what for what, _ in with_them.facts["memory"] if "tokens a pass" in what]
    assert longest > 400 and f"of {min(longest, 2048):,} tokens" in memory
    assert set(without.facts["tokens"]) < set(with_them.facts["tokens"])


def test_check_reports_all_failures_at_once(pool_folder: Path, tmp_path: Path) -> None:
    more = ["--data.image_root", str(tmp_path), "--model.checkpoint", "./none"]
    more += ["--full_scores", "none.json", "--data.task_rules", "[{task: x, image: '^coco/'}]"]
    error = refused(recipe_of(pool_folder, tmp_path / "run", *more))
    for named in ("./none", "none.json", "have no task", "max_problem_fraction"):
        assert named in error


def test_check_missing_paths_are_printed_once(
    pool_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ["--data.annotations", "[no.json, nor.json]", "--data.image_root", "nowhere"]
    words = fit_arguments(pool_folder, tmp_path / "run", *more, "--model.checkpoint", "./none")
    assert main(["check", *words[1:]]) == 2
    said = capfd.readouterr()
    for named in ("no.json, nor.json", "data.image_root nowhere", "./none"):
        assert said.err.count(named) == 1 and named not in said.out
    assert said.err.count("\n") == 1


def test_check_images_outside_task_folders_are_reported(pool_folder: Path, tmp_path: Path) -> None:
    for name in ("stray.png", "task/one.png", "task/two.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    option = ["--data.annotations", str(tmp_path / "photos")]
    assert "move them into one" in refused(recipe_of(pool_folder, tmp_path / "run", *option))


def test_check_sample_depends_only_on_the_seed(pool_folder: Path, tmp_path: Path) -> None:
    reports = [
        run_check(recipe_of(pool_folder, tmp_path / str(n)), n_records=20, n_images=10)[0].facts
        for n in range(2)
    ]
    assert reports[0]["tokens"] == reports[1]["tokens"]
    assert "10 of 130" in dict(reports[0]["images"])["headers read"]


def test_check_given_throughput_determines_gpu_hours(pool_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(pool_folder, tmp_path, "--baselines", "random")
    report, _ = run_check(recipe, throughput=Throughput(32 / 3600, 9 / 3600, 130 / 3600))
    hours = [figure(report, "GPU-hours", stage) for stage in ("final", "losses", "features")]
    assert hours == ["1.00"] * 3


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (["weighting", "headroom"], {"held_out_a", "held_out_b", "held_out"}),
        (
            ["weighting.init_args.cap_flat", "true"],
            {"reference", "losses", "held_out_a", "held_out_b", "held_out"},
        ),
        (["weighting", "size"], set()),
    ],
)
def test_signals_that_the_weighting_needs_are_priced(
    options: list[str], stages: set[str], pool_folder: Path, tmp_path: Path
) -> None:
    key, value = options
    more = [f"--selector.init_args.{key}", value, "--baselines", "random"]
    recipe = recipe_of(pool_folder, tmp_path, *more)
    report, _ = run_check(recipe, throughput=Throughput(32 / 3600, 9 / 3600, 130 / 3600))
    hours = dict(report.facts["GPU-hours"])
    assert hours.keys() - {"in all", "at samples/s"} == {"features", "final", "random"} | stages
    expected = {"held_out_a": "0.16", "held_out_b": "0.12", "held_out": "2.00", "losses": "1.00"}
    assert {stage: hours[stage] for stage in stages - {"reference"}} == {
        stage: expected[stage] for stage in stages - {"reference"}
    }


def test_reference_of_one_sample_is_too_small_for_held_out_losses(
    pool_folder: Path, tmp_path: Path
) -> None:
    one = ["--data.task_rules", "[{task: all}]", "--data.reference", "0.001"]
    more = [*one, "--selector.init_args.weighting", "headroom"]
    assert "`held_out_loss` needs at least 2" in refused(recipe_of(pool_folder, tmp_path, *more))


def test_memory_of_answers_is_that_of_the_benchmark_that_takes_most(
    pool_folder: Path, tmp_path: Path
) -> None:
    path = pool_folder / "test.json"
    benchmarks = ", ".join(
        f"{{class_path: AnnotationFile, init_args: {{path: {path}, name: {name}, limit: {limit}}}}}"
        for name, limit in (("few", 2), ("many", 16))
    )
    more = ["--benchmarks", f"[{benchmarks}]", "--data.eval_batch_size", "8"]
    report, _ = run_check(recipe_of(pool_folder, tmp_path, *more))
    (line,) = [what for what, _ in report.facts["memory"] if "answered" in what]
    assert line.startswith("many: 8 x (")
    assert "KV cache" in figure(report, "memory", line)
