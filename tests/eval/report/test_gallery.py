from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from presel_lightning.eval.report import gallery
from presel_lightning.eval.report.gallery import read_gallery, thumbnails
from presel_lightning.eval.report.samples import CHOSEN, LEFT_OUT, read_samples
from tests.eval.report.runs import write_samples


def test_read_gallery_shows_top_selected_and_extremes_of_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_samples(tmp_path, {"a": 100, "b": 60, "c": 3})
    samples = read_samples(tmp_path)
    assert samples is not None
    monkeypatch.setattr(gallery, "PER_TASK", 5)
    found = read_gallery(tmp_path, samples)
    rows = [r for r in table.to_pylist() if r["task"] == "a" and r["reason"] != "reference split"]
    for kind, taken in ((CHOSEN, True), (LEFT_OUT, False)):
        scores = sorted((r["score"] for r in rows if r["selected"] == taken), reverse=True)
        wanted = scores[:5] if taken else [*scores[:3], *scores[-2:]]
        shown = [i for i in found["items"] if i["task"] == "a" and i["kind"] == kind]
        assert [i["score"] for i in shown] == [round(s, 5) for s in wanted]
    assert len({i["uid"] for i in found["items"]}) == len(found["items"])
    assert found["items"][0]["image"] == f"images/{int(found['items'][0]['uid'], 16) % 8}.jpg"
    assert found["chosen"] + found["left_out"] == 163 - (5 + 3 + 1)


def test_read_gallery_of_many_tasks_limits_images_per_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path, {f"t{i}": 20 for i in range(10)})
    samples = read_samples(tmp_path)
    assert samples is not None
    monkeypatch.setattr(gallery, "IN_ALL", 20)
    found = read_gallery(tmp_path, samples)
    assert found["per_task"] == 1 and len(found["items"]) == 20


@pytest.mark.parametrize("size", [(1500, 8), (400, 2), (3, 600)])
def test_thumbnails_of_elongated_images_exist(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert list(thumbnails(tmp_path, ["a.png"])) == ["a.png"]


def test_thumbnails_are_small_and_skip_invalid_images(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), "red").save(tmp_path / "wide.jpg")
    Image.new("RGBA", (20, 30)).save(tmp_path / "tiny.png")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "wide.jpg").read_bytes()[:500])
    (tmp_path / "text.jpg").write_text("no image")
    names = [
        "wide.jpg",
        "tiny.png",
        "cut.jpg",
        "text.jpg",
        "gone.jpg",
        "../out.jpg",
        None,
        "tiny.png",
    ]
    found = thumbnails(tmp_path, names)
    assert list(found) == ["wide.jpg", "tiny.png"]
    sizes = []
    for url in found.values():
        kind, _, text = url.partition(",")
        assert kind == "data:image/webp;base64"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(text))).size)
    assert sizes == [(80, 40), (20, 30)]
    assert thumbnails(None, names) == {}
