from __future__ import annotations

from pathlib import Path

from presel_lightning.data.folders import folder_records


def test_folder_records_flat_folder_is_one_task(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "x.jpg").touch()
    assert list(folder_records(photos)) == [{"id": "x", "image": "x.jpg", "task": "photos"}]


def test_folder_records_are_sorted_and_skip_hidden_files(tmp_path: Path) -> None:
    for name in ("b/x.jpg", "a/sub/y.png", "a/.hidden", ".git/z.jpg", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert list(folder_records(tmp_path)) == [
        {"id": "a/y", "image": "a/sub/y.png", "task": "a"},
        {"id": "b/x", "image": "b/x.jpg", "task": "b"},
        {"id": "linked", "image": "linked"},
    ]
