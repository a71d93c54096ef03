"""`export` as a command: mistakes in one line, what is left out, nothing half written, no torch."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from presel_lightning.cli.main import main
from presel_lightning.export.run import MODELS
from presel_lightning.export.selection import LEFT_OUT, TARGETS


def command(run: Path, to: str, path: Path, *more: str) -> list[str]:
    return ["export", "--run", str(run), "--to", to, "--path", str(path), *more]


@pytest.fixture
def lossy(finished: Path, pool_folder: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the images without two selected ones; uids of these."""
    records = json.loads((finished / "selection" / "selected.json").read_text())
    root = tmp_path / "images_now"
    shutil.copytree(pool_folder, root)
    (root / records[0]["image"]).unlink()
    (root / records[3]["image"]).write_text("no image")
    return root, [records[0]["uid"], records[3]["uid"]]


@pytest.mark.parametrize("to", [name for name, kind in TARGETS.items() if kind.needs_image])
def test_export_missing_images_are_listed_and_skipped(
    to: str,
    finished: Path,
    lossy: tuple[Path, list[str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    root, gone = lossy
    out = tmp_path / "out"
    assert main(command(finished, to, out, "--image_root", str(root))) == 0
    with (out / LEFT_OUT).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["uid"], row["problem"]) for row in rows] == [
        (gone[0], "missing"),
        (gone[1], "not_an_image"),
    ]
    told = capfd.readouterr().out
    assert "2 left out (1 missing, 1 not_an_image)" in told and str(out / LEFT_OUT) in told
    written = b"".join(
        path.read_bytes() for path in out.rglob("*") if path.name != LEFT_OUT and path.is_file()
    )
    assert not any(uid.encode() in written for uid in gone)


@pytest.mark.parametrize("to", [name for name, kind in TARGETS.items() if kind.needs_instruction])
def test_export_unannotated_samples_are_listed_and_skipped(
    to: str, unlabelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(unlabelled, to, tmp_path / "out")) == 0
    assert "no_instruction" in capfd.readouterr().out
    with (tmp_path / "out" / LEFT_OUT).open(newline="") as handle:
        left_out = list(csv.DictReader(handle))
    assert 0 < len(left_out) < 20
    assert {row["problem"] for row in left_out} == {"no_instruction"}


def test_export_of_nothing_leaves_no_folder(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert main(command(finished, "trl", out, "--image_root", str(tmp_path / "empty"))) == 2
    assert "nothing to export" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_export_to_existing_folder_exits_with_2(finished: Path, tmp_path: Path) -> None:
    assert main(command(finished, "csv", tmp_path / "out")) == 0
    before = (tmp_path / "out" / "selection.csv").read_bytes()
    for to in ("npy", "hf"):
        assert main(command(finished, to, tmp_path / "out")) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["selection.csv"]
    assert (tmp_path / "out" / "selection.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("to", "more", "names"),
    [
        ("parquet", [], [*TARGETS, *MODELS]),
        ("image", [], ["did you mean images?"]),
        ("csv", ["--images", "copy"], ["--images", "--to csv"]),
        ("hf", ["--shard_mb", "5"], ["--shard_mb", "--to hf"]),
        ("trl", ["--shard_mb", "0"], ["shard_mb: '0' is invalid"]),
        ("llava-json", ["--images", "move"], ["none, copy, link"]),
        ("csv", ["--image_root", "nowhere"], ["--image_root nowhere"]),
    ],
)
def test_export_invalid_arguments_exit_with_one_line(
    to: str,
    more: list[str],
    names: list[str],
    finished: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(command(finished, to, tmp_path / "out", *more)) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and all(name in error for name in names)
    assert not (tmp_path / "out").exists()


def test_export_run_without_selection_or_model_exits_with_2(
    unlabelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, "csv", tmp_path / "out")) == 2
    assert "no selection/selection.parquet" in capfd.readouterr().err
    assert main(command(unlabelled, "hf", tmp_path / "out")) == 2
    error = capfd.readouterr().err
    assert "no models/final" in error and "`select` ends before" in error and "trl" in error


def test_export_moved_images_error_names_image_root(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What config.yaml names is no longer there."""
    run = tmp_path / "run"
    shutil.copytree(finished / "selection", run / "selection")
    config = yaml.safe_load((finished / "config.yaml").read_text())
    config["data"]["annotations"] = "gone/train.json"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(command(run, "llava-json", tmp_path / "out")) == 2
    error = capfd.readouterr().err
    assert "gone/train.json" in error and "--image_root" in error and error.count("\n") == 1


def test_export_help_lists_every_format(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--help"])
    assert stopped.value.code == 0
    text = "".join(capfd.readouterr().out.split()).replace("-", "")
    assert all(f"`{name.replace('-', '')}`" in text for name in [*TARGETS, *MODELS])


def test_selection_export_does_not_import_torch(finished: Path, tmp_path: Path) -> None:
    """In a process of its own, every format one after the other."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from presel_lightning.cli.main import main\n"
        "run, out, *formats = sys.argv[1:]\n"
        "for to in formats:\n"
        "    code = main(['export', '--run', run, '--to', to, '--path', str(Path(out) / to)])\n"
        "    assert code == 0, to\n"
        "heavy = {'torch', 'transformers', 'lightning', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    words = [sys.executable, "-c", program, str(finished), str(tmp_path / "out"), *TARGETS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(TARGETS)
