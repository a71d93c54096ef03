"""Map, gallery, curves and intervals of runs with real images and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from presel_lightning.eval.report.report import write_report
from tests.eval.report.runs import HOSTILE, Page, write_ledger, write_samples, write_tasks


def explored(html: str) -> Any:
    """The data that the page's script works with."""
    return json.loads(html.split('id="explore">')[1].split("</script>")[0])


def test_report_page_embeds_map_and_gallery(tmp_path: Path) -> None:
    write_tasks(tmp_path, write_samples(tmp_path, {HOSTILE: 120, "b": 80}))
    write_ledger(tmp_path)
    page = write_report(tmp_path, tmp_path)
    html, report = page.read_text(), json.loads((page.parent / "report.json").read_text())
    data = explored(html)
    assert [found["task"] for found in data["maps"]] == [HOSTILE, "b"]
    assert data["items"] and all(item["picture"] is not None for item in data["items"])
    assert len(data["pictures"]) == 8 == len(set(data["pictures"]))  # each image is there once
    assert Page(html).tags.count("script") == 2  # the data and our own
    assert [i["uid"] for i in report["gallery"]["items"]] == [i["uid"] for i in data["items"]]
    assert report["maps"][1]["points"]["x"] == data["maps"][1]["x"]
    assert "could not be opened" not in html and "data:" not in json.dumps(report)


def test_report_missing_images_are_counted(tmp_path: Path) -> None:
    write_tasks(tmp_path, write_samples(tmp_path, {"a": 100}))
    write_ledger(tmp_path)
    (tmp_path / "images" / "3.jpg").unlink()
    data = explored(html := write_report(tmp_path, tmp_path).read_text())
    missing = [item for item in data["items"] if item["picture"] is None]
    assert {item["image"] for item in missing} == {"images/3.jpg"}
    assert f"{len(missing)} of the images could not be opened" in html
    html = write_report(tmp_path).read_text()  # no config.yaml, so no image root is known
    assert explored(html)["pictures"] == []


def test_finished_run_report_has_intervals_curves_and_images(finished: Path) -> None:
    report = json.loads((finished / "report" / "report.json").read_text())
    html = (finished / "report" / "index.html").read_text()
    arms = {row["arm"]: row for row in report["arms"]}
    for arm in ("final", "full", "random", "untrained"):
        low, high = arms[arm]["intervals"]["tiny"]
        assert low <= arms[arm]["scores"]["tiny"] <= high
    assert {row["against"] for row in report["paired"]} == {"random", "full"}
    gap = arms["final"]["scores"]["tiny"] - arms["random"]["scores"]["tiny"]
    assert report["paired"][0]["difference"] == pytest.approx(gap, abs=1e-3)
    assert "paired bootstrap" in report["verdict"][1] and "One seed cannot" in report["verdict"][2]
    curves = {curve["stage"]: curve for curve in report["curves"]}
    assert list(curves) == ["reference", "final", "random", "full"]
    run = json.loads((finished / "run.json").read_text())
    steps = run["stages"]["final"]["steps"]
    shares = [100 * (step + 1) / steps for step in range(steps)]
    assert curves["final"]["share"] == pytest.approx(shares, abs=1e-4)
    assert set(run["planned"]) == set(run["stages"])
    assert len(explored(html)["pictures"]) > 50 and "could not be opened" not in html
