"""Photos of phones (HEIC), written by the plugin that reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presel_lightning.data import build_pool, load_pool, source
from presel_lightning.data.images import check_image, open_rgb
from tests.optional import require

Array = np.ndarray

ORIENTATION = 274
SHOWN: Array = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
STORED: dict[int, Array] = {
    1: SHOWN,
    3: SHOWN[::-1, ::-1],
    6: np.rot90(SHOWN),
    8: np.rot90(SHOWN, -1),
}
"""What the sensor of a phone stores, by the orientation that it writes down."""


def write(path: Path, orientation: int) -> None:
    require("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    stored.save(path, format="HEIF", quality=-1, chroma=444, exif=exif.tobytes())


@pytest.mark.parametrize("orientation", STORED)
def test_open_rgb_of_heic_is_upright(orientation: int, tmp_path: Path) -> None:
    write(tmp_path / "a.heic", orientation)
    assert check_image(tmp_path / "a.heic") is None
    found = np.asarray(open_rgb(tmp_path / "a.heic"), dtype=int)
    assert found.shape == SHOWN.shape and np.abs(found - SHOWN).max() <= 2


def test_folder_of_heic_photos_is_a_pool(tmp_path: Path) -> None:
    (tmp_path / "photos" / "phone").mkdir(parents=True)
    write(tmp_path / "photos" / "phone" / "a.heic", 6)
    write(tmp_path / "photos" / "phone" / "b.HEIC", 1)
    counts = build_pool(source(str(tmp_path / "photos")), tmp_path / "out")
    assert (counts.pool, counts.problems) == (2, 0)
    assert load_pool(tmp_path / "out", tmp_path / "photos").tasks == ("phone",)


def test_heic_without_the_plugin_is_a_problem_that_names_the_extra(tmp_path: Path) -> None:
    write(tmp_path / "a.heic", 1)
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from pathlib import Path\n"
        "from presel_lightning.data.images import check_image\n"
        "print(check_image(Path(sys.argv[1])))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.heic")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'not_an_image'" in found.stdout and "presel-lightning[heif]" in found.stdout
