"""The fuzz campaign, small."""

from __future__ import annotations

from pathlib import Path

from tests.bench.fuzz_campaign import main


def test_fuzz_campaign_every_form_gives_the_same_pool(tmp_path: Path) -> None:
    rows = {row["data"]: row for row in main(["--records", "600", "--out", str(tmp_path / "f")])}
    assert rows["JSON"]["records"] == rows["JSON lines"]["records"] == 600
    for row in rows.values():
        assert row["pool"] + row["text_only"] + row["problems"] == row["records"]
        assert row["pool"] > row["problems"] > 0 or "broken" not in row["data"]
    assert {"table, broken", "tar, broken", "Parquet, broken"} <= rows.keys()
    assert rows["JSON"]["kinds"] > 15
