"""`filter` through the command line: fractions, faults, scores of other files, draws."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from presel_lightning.cli.main import main
from tests.filters.pools import datacomp, pairs, run_filter

L14 = "clip_l14_similarity_score"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("datacomp")
    return folder, datacomp(folder)


def write(folder: Path, files: list[list[tuple[str, float | None]]]) -> None:
    folder.mkdir(parents=True)
    for number, rows in enumerate(files):
        names, scores = [uid for uid, _ in rows], [score for _, score in rows]
        table = pa.table({"uid": pa.array(names, pa.string()), "s": pa.array(scores, pa.float64())})
        pq.write_table(table, folder / f"{number}.parquet")


def test_files_of_the_pool_may_be_divided_in_any_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[Any] = [(rng.bytes(16).hex(), float(rng.integers(0, 5))) for _ in range(300)]
    write(tmp_path / "one", [rows])
    write(tmp_path / "many", [rows[start : start + 7] for start in range(0, 300, 7)])
    rule: dict[str, Any] = {"clip_score": {"fraction": 0.37, "column": "s"}}
    one = run_filter(tmp_path / "one", tmp_path / "one.npy", [rule])
    assert one == run_filter(tmp_path / "many", tmp_path / "many.npy", [rule])
    assert len(one) == 111
    rule["clip_score"]["fraction"] = 0.0
    assert run_filter(tmp_path / "one", tmp_path / "one.npy", [rule]) == []


def test_filter_imports_neither_torch_nor_pandas(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    rules = "[{clip_score: {fraction: 0.9}}, {basic_filter: {language: null}}]"
    words = ["--metadata", str(pool[0]), "--rules", rules, "--output", str(tmp_path / "o.npy")]
    code = (
        "import sys; from presel_lightning.cli.main import main; "
        "assert main(sys.argv[1:]) == 0; "
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "filter", *words], check=True)
    assert len(np.load(tmp_path / "o.npy")) > 0


def test_nulls_are_counted_and_rules_report_what_they_saw(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, table = pool
    run_filter(folder, tmp_path / "o.npy", ["basic_filter", {"clip_score": {"threshold": 0.2}}])
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["rows"] == len(table) and found["files"] == 3
    assert found["nulls"]["text"] == int(table["text"].isna().sum()) > 0
    assert found["nulls"]["original_width"] == 3
    first, second = found["rules"]
    assert first["seen"] == len(table) and second["passed"] == found["kept"]
    assert second["seen"] >= first["passed"]
    assert (tmp_path / "o.problems.csv").read_text() == "file,problem,detail\n"


def problems(path: Path) -> list[tuple[str, str, str]]:
    with path.open(newline="") as rows:
        return [(Path(r["file"]).name, r["problem"], r["detail"]) for r in csv.DictReader(rows)]


def test_faults_stop_or_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = datacomp(tmp_path / "in", files=2, rows=20)
    uids = [*table["uid"][:20]]
    uids[3:6] = ["xyz", "", "0" * 31 + "g"]
    broken = table[:20].assign(uid=uids).drop(columns="l14_img")
    broken.to_parquet(tmp_path / "in" / "00002.parquet")
    table[:20].drop(columns=["l14_img", L14]).to_parquet(tmp_path / "in" / "00003.parquet")
    (tmp_path / "in" / "00004.parquet").write_bytes(b"PAR1 and no more")
    good = (tmp_path / "in" / "00000.parquet").read_bytes()
    (tmp_path / "in" / "00005.parquet").write_bytes(good[: len(good) // 2])
    rules = ["--rules", f"[{{clip_score: {{threshold: -1, column: {L14}}}}}]"]
    words = ["filter", "--metadata", str(tmp_path / "in"), "--output", str(tmp_path / "o.npy")]
    assert main([*words, *rules]) == 2
    line = capsys.readouterr().err
    assert "00002.parquet: malformed uid: row 3: 'xyz'" in line and "--faults skip" in line
    assert not (tmp_path / "o.npy").exists()
    assert main([*words, *rules, "--faults", "skip"]) == 0
    assert problems(tmp_path / "o.problems.csv")[:4] == [
        ("00002.parquet", "malformed_uid", "row 3: 'xyz'"),
        ("00002.parquet", "malformed_uid", "row 4: ''"),
        ("00002.parquet", "malformed_uid", f"row 5: '{uids[5]}'"),
        ("00003.parquet", "missing_column", f"no column {L14}"),
    ]
    rest = [each[:2] for each in problems(tmp_path / "o.problems.csv")[4:]]
    assert rest == [("00004.parquet", "unreadable"), ("00005.parquet", "unreadable")]
    out = capsys.readouterr().out
    assert "3 x malformed uid" in out and "2 x unreadable" in out
    scored = [uid for uid, s in zip(table["uid"], table[L14], strict=True) if s >= -1]
    again = [
        u
        for u, s in zip(uids, table[L14], strict=False)
        if s >= -1 and len(u) == 32 and "g" not in u
    ]
    assert [tuple(p) for p in np.load(tmp_path / "o.npy").tolist()] == pairs([*scored, *again])


def test_malformed_uid_of_a_row_that_fails_is_no_fault(tmp_path: Path) -> None:
    """Uids are read of the rows that pass; the others count as rows all the same."""
    (tmp_path / "in").mkdir()
    table = pd.DataFrame(
        {"uid": ["xyz", None, "0" * 32, "0" * 31 + "A"], L14: [0.1, 0.2, 0.8, 0.9]}
    )
    table.to_parquet(tmp_path / "in" / "00000.parquet")
    found = run_filter(tmp_path / "in", tmp_path / "o.npy", [{"clip_score": {"fraction": 0.5}}])
    assert found == [(0, 0), (0, 10)]
    assert json.loads((tmp_path / "o.json").read_text())["rows"] == 4


def test_scores_of_other_files_join_by_uid(pool: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    """In any order and division; a row without a score fails; `.npz` with uids as pairs, too."""
    folder, table = pool
    rng = np.random.default_rng(3)
    known = table["uid"].drop_duplicates().sample(frac=0.8, random_state=0)
    scores = pd.DataFrame({"uid": known, "flyt": rng.random(len(known))})
    (tmp_path / "s").mkdir()
    scores[:100].to_parquet(tmp_path / "s" / "a.parquet")
    scores[100:200].assign(other="x").to_parquet(tmp_path / "s" / "b.parquet")
    rest = scores[200:]
    halves = [(int(uid[:16], 16), int(uid[16:], 16)) for uid in rest["uid"]]
    np.savez(tmp_path / "s" / "c.npz", uid=np.array(halves, "u8,u8"), flyt=rest["flyt"].to_numpy())
    rule = {"clip_score": {"column": "flyt", "threshold": 0.5}}
    found = run_filter(folder, tmp_path / "o.npy", [rule], "--scores", f"[{tmp_path}/s]")
    high = set(scores["uid"][scores["flyt"] >= 0.5])
    assert found == pairs(uid for uid in table["uid"] if uid in high) and found


def test_metadata_behind_a_url(pool: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    folder, _ = pool
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/pool/meta.parquet.d/{path.name}", path.read_bytes())
    expected = run_filter(folder, tmp_path / "a.npy", ["basic_filter"])
    words = ["--metadata", "memory://pool", "--rules", "[basic_filter]"]
    code = main(["filter", *words, "--output", str(tmp_path / "b.npy")])
    assert code == 0 and np.load(tmp_path / "b.npy").tolist() == expected


def test_soft_cap_draws_from_the_softmax_with_a_penalty(tmp_path: Path) -> None:
    """Against draws one by one, in distribution: mean counts over seeds."""
    rows: list[Any] = [(f"{n:032x}", float(score)) for n, score in enumerate([3, 2, 1, 0, -9])]
    write(tmp_path / "in", [rows[3:], rows[:3]])
    ours, theirs, seeds = np.zeros(5), np.zeros(5), 30
    generator = np.random.default_rng(1)
    for seed in range(seeds):
        options = {"method": "soft_cap", "score": "s", "size": 12, "penalty": 0.5, "batch": 2}
        words = ["--sampling", yaml.safe_dump({**options, "seed": seed}, default_flow_style=True)]
        found = Counter(
            run_filter(tmp_path / "in", tmp_path / f"{seed}.npy", ["no_filter"], *words)
        )
        assert sum(found.values()) == 12
        ours += [found[(0, number)] for number in range(5)]
        logits = np.array([score for _, score in rows])
        for _ in range(6):
            weights = np.exp(logits - logits.max())
            drawn = generator.choice(5, 2, replace=False, p=weights / weights.sum())
            logits[drawn] -= 0.5
            theirs[drawn] += 1
    assert np.abs(ours - theirs).max() / seeds < 0.9 and ours[0] > ours[1] > ours[2] > ours[3]


def test_hard_cap_draws_no_row_more_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{number:032x}", float(number)) for number in range(6)]
    write(tmp_path / "in", [[*rows, ("f" * 32, None)]])
    words = ["--sampling.method", "hard_cap"]
    options = {"method": "hard_cap", "score": "s", "size": 20, "limit": 4}
    words = ["--sampling", yaml.safe_dump(options, default_flow_style=True)]
    found = Counter(run_filter(tmp_path / "in", tmp_path / "o.npy", ["no_filter"], *words))
    assert sum(found.values()) == 20 and max(found.values()) == 4
    assert found[(0, 5)] == found[(0, 4)] == 4 and found[(2**64 - 1, 2**64 - 1)] == 0
    words[1] = words[1].replace("20", "25")
    call = ["filter", "--metadata", str(tmp_path / "in"), "--rules", "[no_filter]", *words]
    assert main([*call, "--output", str(tmp_path / "p.npy")]) == 2
    assert "fewer than 25 draws" in capsys.readouterr().err


def test_sets_of_uids_without_metadata(tmp_path: Path) -> None:
    a, b = [(1, 1), (1, 1), (2, 2)], [(2, 2), (0, 9), (2, 2)]
    for name, rows in [("a", a), ("b", b)]:
        np.save(tmp_path / f"{name}.npy", np.array(rows, "u8,u8"))
    for operator, expected in [("|", [(0, 9), (1, 1), (1, 1), (2, 2), (2, 2)]), ("&", [(2, 2)])]:
        words = ["--uids", f"{tmp_path}/a.npy {operator} {tmp_path}/b.npy"]
        assert main(["filter", *words, "--output", str(tmp_path / "o.npy")]) == 0
        assert np.load(tmp_path / "o.npy").tolist() == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rules", "[clip_scor]"], "did you mean clip_score"),
        (["--rules", "[{clip_score: {fracton: 0.3}}]"], "did you mean fraction"),
        (["--rules", "[{clip_score: {fraction: 3}}]"], "give a number from 0 to 1"),
        (["--rules", "[clip_score]"], "give either `threshold` or `fraction`"),
        (["--rules", "[{any: basic_filter}]"], "`any` takes a list of rules"),
        (["--rules", "[{a: 1, b: 2}]"], "is no rule; write a name"),
        (["--rules", "[{clip_score: {fraction: 1.0, ties: published}}]"], "use `ties: exact`"),
        (["--rules", "[{uids: nowhere.npy}]"], "nowhere.npy: no uids there"),
        (["--rules", "[no_filter]", "--uids", "| a.npy"], "a file is missing"),
        (["--rules", "[{text_based: {synsets: nowhere}}]"], "nowhere"),
        (["--rules", "[basic_filter]", "--lid_model", "nowhere"], "no fastText model there"),
        ([], "filter needs --rules"),
        (["--rules", "[no_filter]", "--executor", "slurm"], "SLURM_ARRAY_TASK_ID"),
    ],
)
def test_mistakes_are_one_line(
    pool: tuple[Path, pd.DataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    call = ["filter", "--metadata", str(pool[0]), "--output", str(tmp_path / "o.npy")]
    assert main([*call, *words]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_config_file_and_options(pool: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    config = {"metadata": str(pool[0]), "rules": ["no_filter"], "output": str(tmp_path / "a.npy")}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["filter", "--config", str(tmp_path / "c.yaml")]) == 0
    more = ["--output", str(tmp_path / "b.npy"), "--rules", "[basic_filter]"]
    assert main(["filter", *more, "--config", str(tmp_path / "c.yaml")]) == 0
    assert len(np.load(tmp_path / "a.npy")) == 450 > len(np.load(tmp_path / "b.npy")) > 0
