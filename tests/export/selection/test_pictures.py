"""The pixels of one picture are the same for the encoder, training, annotators, gallery and exports."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image, features

from presel_lightning.annotators.wire import image_url
from presel_lightning.cli.main import main
from presel_lightning.data import load_pool
from presel_lightning.eval.report.gallery import thumbnails
from presel_lightning.loading.chat_encoder import size_of
from presel_lightning.loading.datasets import ImageSet, TrainSet
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.models import load_processor
from presel_lightning.run.files import read_json

Array = np.ndarray

SHOWN = np.random.default_rng(0).integers(0, 256, (30, 48, 3), dtype=np.uint8)
"""(H, W, 3): wider than high."""
ORIENTATION = 274


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def write_odd(folder: Path) -> dict[str, Array]:
    """Pictures that a plain conversion shows otherwise; what viewers show of each, by name."""
    folder.mkdir(parents=True)
    shown: dict[str, Array] = {}
    sensor = np.ascontiguousarray(np.rot90(SHOWN))  # 6 turns it clockwise
    Image.fromarray(sensor).save(folder / "phone.jpg", exif=exif(6), quality=95)
    shown["phone.jpg"] = np.rot90(np.asarray(Image.open(folder / "phone.jpg")), -1)
    gray = np.ascontiguousarray(SHOWN[..., 0])
    Image.fromarray(np.ascontiguousarray(np.rot90(gray))).save(folder / "scan.tif", exif=exif(6))
    shown["scan.tif"] = np.repeat(gray[..., None], 3, axis=-1)
    ink = SHOWN[..., :1] < 128
    alpha = np.where(ink, 255, 0).astype(np.uint8)
    Image.fromarray(np.concatenate([SHOWN // 2, alpha], axis=-1)).save(folder / "chart.png")
    shown["chart.png"] = np.where(ink, SHOWN // 2, 255)
    Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "deep.png")
    shown["deep.png"] = shown["scan.tif"]
    if features.check("avif"):
        Image.fromarray(SHOWN).save(folder / "new.avif")
        shown["new.avif"] = np.asarray(Image.open(folder / "new.avif").convert("RGB"))
    return shown


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    """Folder with `run`, whose pool holds each odd picture and a plain twin of it."""
    base = tmp_path_factory.mktemp("shown")
    pictures = write_odd(base / "pool" / "odd")
    (base / "pool" / "plain").mkdir()
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    records = []
    for name, array in pictures.items():
        twin = f"plain/{Path(name).stem}.png"
        Image.fromarray(array.astype(np.uint8)).save(base / "pool" / twin)
        records += [
            {"id": image, "image": image, "task": image.split("/")[0], "conversations": turns}
            for image in (f"odd/{name}", twin)
        ]
    (base / "pool" / "pool.json").write_text(json.dumps(records))
    arguments = ["--selector", "Random", "--data.budget", "1.0", "--data.copies", "keep"]
    arguments += ["--out", str(base / "run")]
    annotations = ["--data.annotations", str(base / "pool" / "pool.json")]
    assert main(["select", "--config", "quickstart.yaml", *annotations, *arguments]) == 0
    return base, pictures


def export(run: Path, to: str, path: Path, *more: str) -> Path:
    assert main(["export", "--run", str(run), "--to", to, "--path", str(path), *more]) == 0
    return path


def test_pool_counts_the_pictures_that_the_rule_changes(
    shown: tuple[Path, dict[str, Array]],
) -> None:
    base, _ = shown
    counts = read_json(base / "run" / "run.json")["stages"]["pool"]["shown"]
    assert counts == {"changed": 4, "orientation": 2, "transparency": 1, "depth": 1}


def test_pixels_of_odd_picture_equal_its_plain_twin_at_every_border(
    shown: tuple[Path, dict[str, Array]],
) -> None:
    base, pictures = shown
    pool = load_pool(base / "run", base / "pool")
    rows = {str(image): row for row, image in enumerate(pool.image)}
    processor = load_processor("quickstart")
    trained = TrainSet(pool, np.arange(len(pool)), encoder_of("auto", processor, 2048))
    small = thumbnails(base / "pool", rows)
    for name in pictures:
        odd, twin = f"odd/{name}", f"plain/{Path(name).stem}.png"
        files = [pool.image_path(rows[image]) for image in (odd, twin)]
        assert size_of(files[0]) == size_of(files[1]) == (48, 30), name
        crops = ImageSet(files, processor.image_processor)
        assert np.array_equal(crops[0, 1.0]["crop"], crops[1, 1.0]["crop"]), name
        parts = [trained[rows[image], 1.0]["pixels"] for image in (odd, twin)]
        assert np.array_equal(*parts), name
        assert image_url(files[0], 1024, 90) == image_url(files[1], 1024, 90), name
        assert small[odd] == small[twin], name


def decoded(data: bytes) -> Array:
    """As a tool reads a picture that knows nothing of orientation, transparency or depth."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_exports_write_the_pixels_that_the_run_reads(
    shown: tuple[Path, dict[str, Array]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, pictures = shown
    found: dict[str, dict[str, Array]] = {}
    out = export(base / "run", "webdataset", tmp_path / "wds")
    assert f"{len(pictures)} images written as PNG" in capsys.readouterr().out
    with tarfile.open(out / "00000000.tar") as tar:
        data = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    names = {k.split(".")[0]: json.loads(v)["image"] for k, v in data.items() if "json" in k}
    found["webdataset"] = {
        names[key.split(".")[0]]: decoded(value) for key, value in data.items() if "png" in key
    }
    images = {record["uid"]: record["image"] for record in selected(base)}
    out = export(base / "run", "trl", tmp_path / "trl")
    rows = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    found["trl"] = {images[r["uid"]]: np.asarray(r["images"][0].convert("RGB")) for r in rows}
    for way in ("copy", "link"):
        out = export(base / "run", "llava-json", tmp_path / way, "--images", way)
        records = read_json(out / "selection.json")
        found[way] = {
            images[record["uid"]]: decoded((out / record["image"]).read_bytes())
            for record in records
        }
    for to, arrays in found.items():
        for name, array in pictures.items():
            assert np.array_equal(arrays[f"odd/{name}"], array), (to, name)
            assert np.array_equal(arrays[f"plain/{Path(name).stem}.png"], array), (to, name)


def selected(base: Path) -> list[dict[str, str]]:
    records: list[dict[str, str]] = read_json(base / "run" / "selection" / "selected.json")
    return records


def test_export_of_images_in_place_reports_those_that_others_read_otherwise(
    shown: tuple[Path, dict[str, Array]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, pictures = shown
    export(base / "run", "llava-json", tmp_path / "out")
    printed = " ".join(capsys.readouterr().out.split())
    said = f"{len(pictures)} images are read otherwise, or not at all, by tools"
    assert said in printed and "HEIC" in printed and "--images copy" in printed


def test_exports_give_odd_endings_by_content(tmp_path: Path) -> None:
    """As browsers and download tools leave names."""
    (tmp_path / "pool").mkdir()
    names = {"a.jfif": "JPEG", "b.jpg?width=3": "JPEG", "c": "WEBP", "d.2024-05-01": "PNG"}
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    records = []
    for name, form in names.items():
        Image.fromarray(SHOWN).save(tmp_path / "pool" / name, form)
        records.append({"id": name, "image": f".//{name}", "task": "x", "conversations": turns})
    (tmp_path / "pool" / "pool.json").write_text(json.dumps(records))
    run = tmp_path / "run"
    arguments = ["--selector", "Random", "--data.budget", "1.0", "--data.copies", "keep"]
    arguments += ["--out", str(run)]
    annotations = ["--data.annotations", str(tmp_path / "pool" / "pool.json")]
    assert main(["select", "--config", "quickstart.yaml", *annotations, *arguments]) == 0
    assert {record["image"] for record in selected(tmp_path)} == set(names)
    out = export(run, "llava-json", tmp_path / "copied", "--images", "copy")
    assert {record["image"] for record in read_json(out / "selection.json")} == {
        "images/a.jfif.jpg",
        "images/b.jpg?width=3.jpg",
        "images/c.webp",
        "images/d.2024-05-01.png",
    }
    out = export(run, "webdataset", tmp_path / "wds")
    with tarfile.open(out / "00000000.tar") as tar:
        endings = sorted(member.name.partition(".")[2] for member in tar)
    assert endings == ["jpg", "jpg", "json", "json", "json", "json", "png", "webp"]


def test_published_pixels_are_exported_as_the_run_reads_them(
    shown: tuple[Path, dict[str, Array]], tmp_path: Path
) -> None:
    """A phone photo lies on its side in training, and so it does in an export for a tool that turns it."""
    base, _ = shown
    run = tmp_path / "run"
    arguments = ["--selector", "Random", "--data.budget", "1.0", "--data.copies", "keep"]
    arguments += ["--out", str(run)]
    annotations = ["--data.annotations", str(base / "pool" / "pool.json")]
    how = ["--data.pixels", "published"]
    assert main(["select", "--config", "quickstart.yaml", *annotations, *arguments, *how]) == 0
    out = export(run, "llava-json", tmp_path / "out", "--images", "copy")
    copied = Image.open(out / "images" / "odd" / "phone.jpg.png")
    stored = Image.open(base / "pool" / "odd" / "phone.jpg")
    assert not copied.getexif() and copied.tobytes() == stored.tobytes()
