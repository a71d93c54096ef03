"""`score` on three tiny shards: replies of the quickstart's LLaVA, similarities of its SigLIP."""

from __future__ import annotations

import json
import signal
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from presel_lightning.cli.main import main
from presel_lightning.cli.scorings import judged, judging_of
from presel_lightning.filters.uids import as_hex
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.judge_prompts import prompts_of
from presel_lightning.loading.shard_blocks import see
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.models.image_encoder import load_encoder, load_encoder_processor
from presel_lightning.models.image_text import (
    image_vectors,
    load_image_text,
    load_readers,
    text_vectors,
)
from presel_lightning.run.files import read_json
from presel_lightning.shards.rows import WebSample
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.judge import Judge
from presel_lightning.tasks.shard_writer import ShardWriter
from tests.compare.test_command import processes_of
from tests.conftest import start
from tests.local_ray import local_ray
from tests.models.tiny_chat import write_chat_model
from tests.shards.tars import write_tar

METRICS = ["image_text_matching", "caption_text_quality"]
Pairs = dict[str, tuple[Image.Image, str]]


def png(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def write_shards(folder: Path, sizes: list[int]) -> Pairs:
    """Shards of colored areas; the first has a broken image, a sample without uid, and one without."""
    rng = np.random.default_rng(0)
    pairs: Pairs = {}
    for number, size in enumerate(sizes):
        samples = []
        for place in range(size):
            uid, key = rng.bytes(16).hex(), f"{number:05d}{place:04d}"
            image = Image.new("RGB", (40, 32), tuple(rng.integers(0, 256, 3).tolist()))
            caption = f"a picture of {place} things" + " and more" * (place % 3)
            record = {"uid": uid, "caption": caption}
            files = {"png": png(image), "json": json.dumps(record).encode()}
            pairs[uid] = image, caption
            samples.append((key, files))
        if number == 0:
            samples[1][1]["png"] = b"no image"
            samples.append(("000009998", {"png": b"x", "json": b"{}"}))
            samples.append(("000009999", {"txt": b"x", "json": samples[0][1]["json"]}))
        write_tar(folder / f"{number:08d}.tar", samples)
    return pairs


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pairs]:
    folder = tmp_path_factory.mktemp("shards")
    return folder, write_shards(folder, [5, 3, 0])


def command(folder: Path, out: Path, *more: str) -> list[str]:
    words = ["score", "--input", str(folder), "--output", str(out), "--accelerator", "cpu"]
    words += ["--judge", "quickstart", "--template", "vicuna_bare", "--block_size", "2"]
    return [*words, "--metrics", json.dumps(METRICS), "--num_workers", "0", *more]


@pytest.fixture(scope="module")
def scored(shards: tuple[Path, Pairs], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores") / "out"
    assert main(command(shards[0], out, "--clip", "quickstart-matcher")) == 0
    return out


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return {row["uid"]: row for table in tables for row in table}


def test_every_sample_has_a_row_and_every_other_its_reason(
    scored: Path, shards: tuple[Path, Pairs]
) -> None:
    found, pairs = rows(scored / "judge"), shards[1]
    assert found.keys() == rows(scored / "clip").keys() == pairs.keys()
    broken = [row for row in found.values() if row["fault"]]
    assert [row["uid"] for row in broken] == [list(pairs)[1]]
    assert "not_an_image" in broken[0]["fault"] and broken[0]["image_text_matching_score"] is None
    manifest = read_json(scored / "judge" / "00000000.json")
    assert (manifest["samples"], manifest["scored"]) == (5, 4)
    assert [kind for _, kind, _ in manifest["faults"]] == ["no_uid", "no_image"]
    assert pq.read_table(scored / "judge" / "00000002.parquet").num_rows == 0
    assert not list((scored / "judge").rglob("*.npz"))


def test_replies_equal_whole_prompts_one_by_one(scored: Path, shards: tuple[Path, Pairs]) -> None:
    """The prefix that is computed once changes no reply."""
    tuned = FineTune("quickstart", tune="none", dtype="float32")
    tuned.configure_model()
    encoder = encoder_of("vicuna_bare", tuned.processor, UNCUT)
    asked = prompts_of(METRICS)
    found = rows(scored / "judge")
    replies = set()
    for uid, (image, caption) in shards[1].items():
        if found[uid]["fault"]:
            continue
        for metric, prompt in asked.items():
            text = f"Text Caption: {caption}\n\n{prompt}"
            batch = encoder.prompts([((), text, image)])
            (reply,) = tuned.generate(batch, 4, encoder.stop_ids())
            assert found[uid][f"{metric}_reply"] == reply
            replies.add(reply)
    assert len(replies) > 1 and any(replies)


def test_clip_similarities_equal_one_by_one(scored: Path, shards: tuple[Path, Pairs]) -> None:
    model = load_image_text("quickstart-matcher", "float32")
    images, texts = load_readers("quickstart-matcher")
    found = rows(scored / "clip")
    for uid, (image, caption) in shards[1].items():
        pixels = torch.as_tensor(images(images=image, return_tensors="pt")["pixel_values"])
        with torch.no_grad():
            cosine = (image_vectors(model, pixels) * text_vectors(model, texts([caption]))).sum()
        value = found[uid]["clip_l14_similarity_score"]
        assert (
            value is None
            if found[uid]["fault"]
            else value == pytest.approx(float(cosine), abs=1e-5)
        )


def test_killed_command_goes_on_and_changes_nothing(
    scored: Path,
    shards: tuple[Path, Pairs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written: list[int] = []
    whole = ShardWriter.write_on_batch_end

    def until_third(self: ShardWriter, *args: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(args[4]["block"])
        whole(self, *args)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write_on_batch_end", until_third)
        assert main(command(shards[0], out)) == 130
    assert len(written) == 2 and len(list(out.rglob("*.npz"))) == 2

    def counting(self: ShardWriter, *args: Any) -> None:
        written.append(args[4]["block"])
        whole(self, *args)

    monkeypatch.setattr(ShardWriter, "write_on_batch_end", counting)
    assert main(command(shards[0], out)) == 0
    assert len(written) == 3 + 2  # blocks of shards of 5 and 3, none twice
    for path in (scored / "judge").iterdir():
        if path.is_file():
            assert (out / "judge" / path.name).read_bytes() == path.read_bytes()
    capsys.readouterr()
    assert main(command(shards[0], out)) == 0
    assert len(written) == 5 and "3 of them before" in capsys.readouterr().out


def test_filter_joins_the_scores_by_uid(
    scored: Path, shards: tuple[Path, Pairs], tmp_path: Path
) -> None:
    pairs = list(shards[1])
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    pq.write_table(
        pa.table({"uid": pairs[::-1], "text": ["x"] * len(pairs)}), metadata / "a.parquet"
    )
    similarity = {
        uid: row["clip_l14_similarity_score"] for uid, row in rows(scored / "clip").items()
    }
    known = sorted(value for value in similarity.values() if value is not None)
    rule = f"[{{clip_score: {{threshold: {known[3]}}}}}]"
    words = ["filter", "--metadata", str(metadata), "--rules", rule, "--faults", "skip"]
    out = tmp_path / "uids.npy"
    scores = json.dumps([str(scored / "clip")])
    assert main([*words, "--scores", scores, "--output", str(out)]) == 0
    wanted = {u for u, v in similarity.items() if v is not None and np.float32(v) >= known[3]}
    assert set(as_hex(np.load(out))) == wanted and len(wanted) == len(known) - 3


def test_filter_reads_the_ratings_of_the_judge(tmp_path: Path) -> None:
    uids = [f"{number:032x}" for number in range(5)]
    replies = np.array(["85", "84\nfine", "N/A", " 100", "8"])
    table = {"uid": pa.array(uids), **judged({"semantic_understanding": replies})}
    assert table["semantic_understanding_score"].to_pylist() == [85, 84, None, 100, 8]
    assert table["semantic_understanding_parse_ok"].to_pylist() == [True, True, False, True, True]
    for name, content in (("scores", table), ("metadata", {"uid": table["uid"]})):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(content), tmp_path / name / "0.parquet")
    rule = "{metric: semantic_understanding, threshold: 85, needs_success: false}"
    words = ["filter", "--metadata", str(tmp_path / "metadata"), "--faults", "skip"]
    words += ["--scores", json.dumps([str(tmp_path / "scores")])]
    out = tmp_path / "uids.npy"
    assert main([*words, "--rules", f"[{{mlm_filter: {rule}}}]", "--output", str(out)]) == 0
    assert as_hex(np.load(out)) == [uids[0], uids[3]]


def test_a_model_that_shares_no_prefix_is_asked_each_prompt_whole(tmp_path: Path) -> None:
    tuned = FineTune(write_chat_model("qwen2_5_vl", tmp_path), tune="none", dtype="float32")
    judging = judging_of(tuned, "auto", prompts_of(METRICS), 64)
    content = png(Image.new("RGB", (40, 32), "red"))
    seen = [see(WebSample("0" * 32, content, caption)) for caption in ("a", "b c")]
    tuned.configure_model()
    found = Judge(tuned, (), 2).predict_step(judging(seen), 0)
    assert list(found) == METRICS and all(len(texts) == 2 for texts in found.values())


def test_long_captions_are_cut_and_the_question_stays_whole() -> None:
    tuned = FineTune("quickstart", tune="none")
    judging = judging_of(tuned, "vicuna_bare", prompts_of(METRICS), 5)
    assert judging.cut("one two") == "one two"
    long = "a red square " * 50
    cut = judging.cut(long)
    assert long.startswith(cut) and cut
    assert len(tuned.processor.tokenizer(cut, add_special_tokens=False)["input_ids"]) <= 5


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--metrics", "[beauty]"], "--metrics beauty: no such metric"),
        (["--input", "/nowhere"], "--input /nowhere: no .tar"),
        (["--output", "s3://scores"], "--output s3://scores: give a local path"),
        (["--prompts", "/nowhere.yaml"], "--prompts /nowhere.yaml"),
        (["--template", "vicuna_v7"], "--template vicuna_v7: no such template; choose from auto"),
        (["--judge", "null", "--clip", "quickstart"], "give a CLIP or SigLIP"),
        (
            ["--judge", "/nowhere"],
            "'/nowhere' is neither a folder nor a hub id (owner/name); set --judge",
        ),
        (["--judge", "null"], "--judge, --clip or --features CHECKPOINT"),
    ],
)
def test_score_refuses_what_it_cannot_do(
    more: list[str],
    error: str,
    shards: tuple[Path, Pairs],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(shards[0], tmp_path / "out", *more)) == 2
    line = capsys.readouterr().err
    assert error in line and line.count("\n") == 1


def test_own_prompts_are_further_metrics(tmp_path: Path) -> None:
    from presel_lightning.loading.judge_prompts import read_prompts

    path = tmp_path / "own.yaml"
    path.write_text("beauty: How beautiful is it? Give a number.\n")
    found = prompts_of(["beauty", "caption_text_quality"], read_prompts(path))
    assert found["beauty"] == "How beautiful is it? Give a number."
    assert "from 0 to 100" in found["caption_text_quality"]


@pytest.mark.slow
def test_two_processes_write_the_same_tables(
    scored: Path, shards: tuple[Path, Pairs], tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    words = command(shards[0], out, "--devices", "2", "--strategy", "ddp")
    assert start(words, log).wait() == 0, log.read_text()
    for path in (scored / "judge").iterdir():
        if path.is_file():
            assert (out / "judge" / path.name).read_bytes() == path.read_bytes()


HELD = """
import time
from pathlib import Path
from presel_lightning.tasks.shard_writer import ShardWriter

def held(*args, **options):
    Path({!r}).touch()
    while True:
        time.sleep(0.1)

ShardWriter.write_on_batch_end = held
"""


@pytest.mark.slow
def test_stopped_process_takes_the_other_along(shards: tuple[Path, Pairs], tmp_path: Path) -> None:
    script, begun, log = (tmp_path / name for name in ("held.py", "begun", "log"))
    script.write_text(HELD.format(str(begun)))
    words = command(shards[0], tmp_path / "out", "--devices", "2", "--strategy", "ddp")
    process = start(words, log, script)
    while not begun.exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    end = time.monotonic() + 120  # until the kernel has freed what they held
    while left := processes_of(process.pid):
        assert time.monotonic() < end, left
        time.sleep(0.01)
    assert log.read_text() == "presel_lightning: stopped; the same command continues from here\n"


def same_tables(out: Path, scored: Path, kinds: tuple[str, ...] = ("judge", "clip")) -> None:
    for kind in kinds:
        for path in (scored / kind).iterdir():
            if path.is_file():
                assert (out / kind / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_two_workers_write_the_same_tables(
    scored: Path, shards: tuple[Path, Pairs], tmp_path: Path
) -> None:
    assert main(command(shards[0], tmp_path, "--workers", "2")) == 0
    same_tables(tmp_path, scored, ("judge",))


@pytest.mark.slow
def test_ray_actors_write_the_same_tables_behind_a_kill(
    scored: Path,
    shards: tuple[Path, Pairs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shard that was half done is gone on with; one that was done is left alone."""
    whole = ShardWriter.write_on_batch_end
    written: list[int] = []

    def until_fifth(self: ShardWriter, *args: Any) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(args[4]["block"])
        whole(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write_on_batch_end", until_fifth)
        assert main(command(shards[0], tmp_path)) == 130
    done = tmp_path / "judge" / "00000000.parquet"
    before = done.stat().st_mtime_ns
    with local_ray(monkeypatch):
        words = command(shards[0], tmp_path, "--executor", "ray", "--workers", "2")
        assert main(words) == 0
    same_tables(tmp_path, scored, ("judge",))
    assert done.stat().st_mtime_ns == before


def test_task_of_an_array_writes_the_same_tables_and_again_what_is_gone(
    scored: Path, shards: tuple[Path, Pairs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "1")
    words = command(shards[0], tmp_path, "--executor", "slurm")
    assert main(words) == 0
    same_tables(tmp_path, scored, ("judge",))
    (tmp_path / "judge" / "00000001.parquet").unlink()
    assert main(words) == 0
    same_tables(tmp_path, scored, ("judge",))


def test_workers_have_one_device_each(
    shards: tuple[Path, Pairs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(shards[0], tmp_path, "--workers", "2", "--devices", "2")) == 2
    assert "--devices" in capsys.readouterr().err


def test_expectation_equals_the_mean_over_all_numbers(
    shards: tuple[Path, Pairs], tmp_path: Path
) -> None:
    """Each number spelled out behind a whole prompt, one by one, on a model of single digits."""
    words = command(shards[0], tmp_path, "--reading", "expectation", "--dtype", "float32")
    assert main(words) == 0
    tuned = FineTune("quickstart", tune="none", dtype="float32")
    tuned.configure_model()
    encoder = encoder_of("vicuna_bare", tuned.processor, UNCUT)
    found, asked = rows(tmp_path / "judge"), prompts_of(METRICS)
    values = set()
    for uid, (image, caption) in list(shards[1].items())[2:5]:
        for metric, prompt in asked.items():
            batch = encoder.prompts([((), f"Text Caption: {caption}\n\n{prompt}", image)])
            expected = enumerated(tuned, batch)
            assert found[uid][f"{metric}_score"] == pytest.approx(expected, abs=1e-2)
            values.add(found[uid][f"{metric}_score"])
    assert len(values) > 1 and all(0 < value < 100 for value in values)
    assert "image_text_matching_reply" not in found[uid]


def enumerated(tuned: FineTune, batch: dict[str, torch.Tensor]) -> float:
    tokenizer, model = tuned.processor.tokenizer, tuned.model
    ids = {n: tokenizer(str(n), add_special_tokens=False)["input_ids"] for n in range(101)}

    def behind(tokens: list[int]) -> torch.Tensor:
        more = torch.tensor([tokens], dtype=torch.long)
        with torch.no_grad():
            logits = model(
                input_ids=torch.cat([batch["input_ids"], more], 1),
                attention_mask=torch.ones(1, batch["input_ids"].shape[1] + len(tokens)),
                pixel_values=batch["pixel_values"],
            ).logits[0, -1]
        found: torch.Tensor = logits.double().softmax(0)
        return found

    known: dict[tuple[int, ...], torch.Tensor] = {}
    weights = {}
    for n, tokens in ids.items():
        weight = 1.0
        for place, token in enumerate(tokens):
            path = tuple(tokens[:place])
            if path not in known:
                known[path] = behind(list(path))
            weight *= float(known[path][token])
        longer = {
            tuple(each[: len(tokens) + 1]) for each in ids.values() if len(each) > len(tokens)
        }
        after = [each[-1] for each in longer if list(each[:-1]) == tokens]
        if after:
            if tuple(tokens) not in known:
                known[tuple(tokens)] = behind(tokens)
            weight *= 1 - sum(float(known[tuple(tokens)][token]) for token in after)
        weights[n] = weight
    return sum(n * w for n, w in weights.items()) / sum(weights.values())


def test_expectation_of_a_model_that_is_asked_whole_prompts(tmp_path: Path) -> None:
    tuned = FineTune(write_chat_model("qwen2_5_vl", tmp_path), tune="none", dtype="float32")
    judging = judging_of(tuned, "auto", prompts_of(METRICS[:1]), 64)
    content = png(Image.new("RGB", (40, 32), "red"))
    pairs = [see(WebSample("0" * 32, content, caption)) for caption in ("a", "a longer one")]
    tuned.configure_model()
    judge = Judge(tuned, (), 2, "expectation")
    both = judge.predict_step(judging(pairs), 0)[METRICS[0]]
    each = [judge.predict_step(judging([pair]), 0)[METRICS[0]] for pair in pairs]
    assert torch.allclose(both, torch.cat(each), atol=1e-2)  # type: ignore[arg-type]
    assert (both > 0).all() and (both < 100).all()  # type: ignore[operator]


def test_features_of_shards_select_their_samples(
    shards: tuple[Path, Pairs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vectors of the encoder itself; what `select` chooses is a subset file for `reshard`."""
    words = ["score", "--input", str(shards[0]), "--output", str(tmp_path), "--num_workers", "0"]
    assert main([*words, "--accelerator", "cpu", "--features", "quickstart-encoder"]) == 0
    found = rows(tmp_path / "features")
    broken = list(shards[1])[1]
    assert found[broken]["features"] is None
    encoder, processor = (
        load_encoder("quickstart-encoder", "float32"),
        load_encoder_processor("quickstart-encoder"),
    )
    for uid, (image, _) in shards[1].items():
        if uid == broken:
            continue
        pixels = torch.as_tensor(processor(images=image, return_tensors="pt")["pixel_values"])
        vector = torch.nn.functional.normalize(encoder(pixels).double(), dim=-1)[0]
        assert np.allclose(found[uid]["features"], vector, atol=1e-5)
    words = ["select", "--data.features", str(tmp_path / "features"), "--data.budget", "3"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    chosen = as_hex(np.load(tmp_path / "run" / "selection" / "uids.npy"))
    assert len(chosen) == 3 and set(chosen) < shards[1].keys() - {broken}
    words = ["cluster", "--features", str(tmp_path / "features"), "--rows_per_cluster", "2"]
    assert main([*words, "--output", str(tmp_path / "c.npy")]) == 0
    table = pq.read_table(tmp_path / "c.parquet").to_pydict()
    assert table["cluster"] == np.load(tmp_path / "c.npy").tolist()
    assert set(table["uid"]) == shards[1].keys() - {broken}
    assert sorted(path.name for path in tmp_path.glob("c.*")) == ["c.npy", "c.parquet"]
    words = ["reshard", "--input", str(shards[0]), "--output", str(tmp_path / "new")]
    assert main([*words, "--subset", str(tmp_path / "run" / "selection" / "uids.npy")]) == 0
    assert "3 samples in 1 shards" in capsys.readouterr().out
