"""Annotations of DataComp-VLM's layout, and exact shares of sources among what passes."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from presel_lightning.cli.main import main
from presel_lightning.filters.annotations import annotation_table
from presel_lightning.filters.mixture import Mixture
from presel_lightning.filters.uids import UID, as_hex, parse_uids, scrambled
from tests.filters.pools import run_filter
from tests.shards.tars import write_tar

SIZES = {"llava": [12, 9], "books": [8], "coco": [6, 5], "scans": [7]}
"""Samples of the shards of each source."""
GROUPS = {"instruction": ["llava"], "text": ["books"], "caption": ["coco"], "documents": ["scans"]}
BASELINE = {"instruction": 70, "text": 15, "caption": 10, "documents": 5}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], Any]]:
    """Shards with annotations beside them; of `coco` each sample has a uid of its own."""
    folder = tmp_path_factory.mktemp("vlm")
    found: dict[tuple[str, str], Any] = {}
    for source, sizes in SIZES.items():
        for shard, size in enumerate(sizes):
            notes, members = {}, []
            for place in range(size):
                key = f"{shard}{place:04d}"
                notes[key] = {"text": f"{source} {key}", "width": 100 + place, "lang": "en"}
                if source == "coco":
                    notes[key]["uid"] = f"{shard * 100 + place:032x}"
                if source == "llava":
                    turns = [{"from": "human", "value": "why?"}, {"from": "gpt", "value": key}]
                    notes[key] = {"conversations": turns, "width": 100 + place}
                files = {"txt": key.encode(), "jpg": f"{source}{key}".encode()}
                members.append((key, files))
            path = folder / source / f"{shard:06d}.tar"
            write_tar(path, members)
            path.with_suffix(".json").write_text(json.dumps(notes))
            found |= {(source, key): fields for key, fields in notes.items()}
    return folder, found


def mix(folder: Path, out: Path, mixture: dict[str, Any], *more: str) -> list[tuple[int, int]]:
    return run_filter(folder, out, ["no_filter"], "--mixture", json.dumps(mixture), *more)


def written(folder: Path, out: Path, tmp: Path) -> Counter[str]:
    """Sources of the samples that `reshard` writes for a subset file."""
    words = ["reshard", "--input", str(folder), "--subset", str(out), "--output", str(tmp)]
    assert main([*words, "--faults", "stop"]) == 0
    names: Counter[str] = Counter()
    for path in tmp.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    content = tar.extractfile(member).read().decode()  # type: ignore[union-attr]
                    names[next(source for source in SIZES if content.startswith(source))] += 1
    return names


def test_baseline_mixture_has_exact_shares_and_its_samples(
    pool: tuple[Path, Any], tmp_path: Path
) -> None:
    mixture = {"shares": BASELINE, "groups": GROUPS, "size": 20}
    found = mix(pool[0], tmp_path / "a.npy", mixture)
    assert len(found) == 20
    assert written(pool[0], tmp_path / "a.npy", tmp_path / "new") == {
        "llava": 14,
        "books": 3,
        "coco": 2,
        "scans": 1,
    }
    summary = json.loads((tmp_path / "a.json").read_text())
    assert summary["mixture"] == {"instruction": 14, "text": 3, "caption": 2, "documents": 1}
    assert summary["rows"] == sum(map(sum, SIZES.values()))


def test_mixture_depends_neither_on_workers_nor_on_files(
    pool: tuple[Path, Any], tmp_path: Path
) -> None:
    """The same rows as parquet, shuffled and divided otherwise, give the same bytes."""
    mixture = {"shares": {"llava": 1, "scans": 2}, "size": 9}
    mix(pool[0], tmp_path / "a.npy", mixture)
    mix(pool[0], tmp_path / "b.npy", mixture, "--workers", "2")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    uids: dict[str, str] = {}
    for source in SIZES:
        run_filter(pool[0] / source, tmp_path / "u.npy", ["no_filter"])
        uids |= dict.fromkeys(as_hex(np.load(tmp_path / "u.npy")), source)
    table = pd.DataFrame({"uid": list(uids), "source": list(uids.values())})
    table = table.sample(frac=1, random_state=1)
    (tmp_path / "meta").mkdir()
    table[:20].to_parquet(tmp_path / "meta" / "0.parquet")
    table[20:].to_parquet(tmp_path / "meta" / "1.parquet")
    mix(tmp_path / "meta", tmp_path / "c.npy", mixture)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()


def test_draw_equals_a_literal_one() -> None:
    rng = np.random.default_rng(0)
    uids = rng.integers(0, 1 << 63, 60, dtype=np.uint64).view(UID)
    codes = rng.integers(0, 2, 30).astype(np.int16)
    mixture = Mixture({"a": 1, "b": 3}, 40, repeat=True, seed=7)
    found = mixture.counts(codes, uids)
    for code, wanted in [(0, 10), (1, 30)]:
        rows = [row for row in range(30) if codes[row] == code]
        keys = scrambled(uids, 7).tolist()
        rows.sort(key=lambda row: keys[row])
        times, left = divmod(wanted, len(rows))
        expected = {row: times + (place < left) for place, row in enumerate(rows)}
        assert {row: int(found[row]) for row in rows} == expected


def test_annotations_are_metadata_for_rules(pool: tuple[Path, Any], tmp_path: Path) -> None:
    """Text of the fields or of the turns, plain fields as columns, uids of the fields."""
    score = {"clip_score": {"column": "width", "threshold": 105}}
    found = run_filter(pool[0], tmp_path / "o.npy", [score])
    assert len(found) == sum(fields["width"] >= 105 for fields in pool[1].values())
    own = [fields["uid"] for fields in pool[1].values() if fields.get("uid")]
    wide = {f["uid"] for f in pool[1].values() if f.get("uid") and f["width"] >= 105}
    known = parse_uids(pa_strings(own))[0].tolist()
    assert {uid for uid in found if uid in known} == {
        tuple(pair) for pair in parse_uids(pa_strings(sorted(wide)))[0].tolist()
    }
    words = {"basic_filter": {"language": None}}
    table = run_filter(pool[0] / "llava", tmp_path / "t.npy", [{"not": words}], "--faults", "skip")
    assert table == []  # no height: unknown


def pa_strings(values: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())


@pytest.mark.parametrize(
    ("mixture", "error"),
    [
        ({"shares": {"llava": 1, "scans": 2}, "size": 60}, "scans has 7 rows that pass"),
        ({"shares": {"llava": 0}, "size": 9}, "more than 0"),
        ({"shares": {"x": 1}, "groups": {"y": ["llava"]}, "size": 9}, "no values for x"),
        ({"shares": {"x": 1}, "groups": {"x": ["a", "a"]}, "size": 9}, "a twice"),
        ({"shares": {"x": 1}, "size": 0}, "size"),
        ({"shares": {"nowhere": 1}, "size": 3}, "nowhere has 0 rows"),
    ],
)
def test_mixture_that_cannot_be_drawn_is_refused(
    pool: tuple[Path, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mixture: dict[str, Any],
    error: str,
) -> None:
    words = ["filter", "--metadata", str(pool[0]), "--rules", "[no_filter]"]
    words += ["--output", str(tmp_path / "o.npy"), "--mixture", json.dumps(mixture)]
    assert main(words) == 2
    line = capsys.readouterr().err
    assert error in line and line.count("\n") == 1
    assert not (tmp_path / "o.npy").exists()


def test_field_of_several_types_is_one_of_texts() -> None:
    notes = {"a": {"score": 1, "other": [1]}, "b": {"score": "high"}, "c": {"caption": "x"}}
    table = annotation_table(json.dumps(notes).encode(), "s/000000.json")
    assert table["score"].to_pylist() == ["1", "high", None]
    assert table["caption"].to_pylist() == [None, None, "x"]
    assert table["other"].null_count == 3 and set(table["source"].to_pylist()) == {"s"}
    assert len(set(table["uid"].to_pylist())) == 3 and "text" not in table.column_names


def test_broken_annotations_are_a_listed_fault(tmp_path: Path) -> None:
    for name, content in [("000000", '{"k": {"text": "a"}}'), ("000001", "[1]"), ("000002", "{")]:
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s" / f"{name}.json").write_text(content)
    found = run_filter(tmp_path / "s", tmp_path / "o.npy", ["no_filter"], "--faults", "skip")
    assert len(found) == 1
    assert json.loads((tmp_path / "o.json").read_text())["faults"] == {"unreadable": 2}
