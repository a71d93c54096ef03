"""Model cards of a run's models and of their exports, as Hugging Face reads them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from presel_lightning.cli.main import main
from presel_lightning.export.model_card import metadata, settings_of
from presel_lightning.models.checkpoint import describe_checkpoint
from presel_lightning.models.licenses import license_of
from presel_lightning.quickstart import CHECKPOINT
from tests.conftest import N_POOL, scores


def card_of(folder: Path) -> Any:
    return ModelCard.load(folder / "README.md")


def load_by_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of a card inside its folder, as it says."""
    code = re.findall(r"^```python\n(.*?)^```", card_of(folder).text, re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(compile(code[0], str(folder), "exec"), names)  # noqa: S102 - the card's own code
    return names


def test_card_of_a_run_states_data_selection_and_scores(finished: Path) -> None:
    card = card_of(finished / "models" / "final")
    assert card.data.library_name == "peft" and card.data.license == "apache-2.0"
    assert card.data.base_model is None, "the shipped model is on no hub"
    assert {"presel-lightning", "lora"} <= set(card.data.tags or [])
    counts = json.loads((finished / "run.json").read_text())["counts"]
    for line in (
        f"- samples of the pool: {N_POOL}",
        f"- samples trained on: {counts['trained_on']}",
        f"- added by the selector: {counts['selected']}",
        "- selector: `presel_lightning.selectors.PreSel`",
        "- trainer.max_epochs: 1",
        "- quickstart: apache-2.0",
    ):
        assert line in card.text.splitlines(), line
    table = scores(finished)
    row = next(line for line in card.text.splitlines() if line.startswith("| tiny |"))
    found = [cell.strip() for cell in row.strip("|").split("|")]
    assert float(found[1]) == pytest.approx(table["final"]["tiny"], abs=0.01)
    assert re.fullmatch(r"[\d.]+ to [\d.]+", found[2]) and found[3] == "16"
    assert "seed 0" in card.text and "max_steps" not in card.text, "a limit that is not set"


def test_no_card_has_blanks_or_paths_of_this_machine(finished: Path) -> None:
    cards = sorted((finished / "models").glob("*/README.md"))
    assert [card.parent.name for card in cards] == ["final", "full", "random", "reference"]
    for path in cards:
        card = card_of(path.parent)
        assert "More Information Needed" not in card.content
        assert str(finished) not in card.content and str(Path.home()) not in card.content
        assert ("## Scores" in card.text) == (path.parent.name != "reference")


def test_code_of_a_card_loads_the_tuned_weights(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished / "models" / "final"
    model = load_by_card(folder, monkeypatch)["model"].model
    saved = load_file(folder / "adapter_model.safetensors")
    # the adapter is merged for inference; the projector is tuned as a whole, and not as published
    name, weight = next((n, w) for n, w in saved.items() if "projector" in n)
    key = name.rpartition("projector.")[2]
    loaded = {
        n.rpartition("projector.")[2]: p for n, p in model.named_parameters() if "projector" in n
    }
    torch.testing.assert_close(loaded[key].detach(), weight)
    published = load_file(CHECKPOINT / "model.safetensors")
    before = next(w for n, w in published.items() if n.endswith(f"projector.{key}"))
    assert not torch.equal(before.float(), weight)


@pytest.mark.parametrize(("to", "library"), [("hf", "transformers"), ("adapter", "peft")])
def test_code_of_an_exports_card_loads_it_without_this_package(
    to: str, library: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exported"
    assert main(["export", "--run", str(finished), "--to", to, "--path", str(out)]) == 0
    card = card_of(out)
    assert card.data.library_name == library and "## Scores" in card.text
    assert "import presel_lightning" not in card.text
    names = load_by_card(out, monkeypatch)
    assert sum(p.numel() for p in names["model"].parameters()) > 1e6


@pytest.mark.parametrize("state", ["selected", None])
def test_export_of_a_run_that_goes_on_or_has_lost_its_files_has_no_card(
    state: str | None, finished: Path, tmp_path: Path
) -> None:
    """The configuration that lies there may be that of another selection."""
    run, out = tmp_path / "run", tmp_path / "exported"
    shutil.copytree(finished / "models" / "final", run / "models" / "final")
    if state is not None:
        shutil.copy(finished / "config.yaml", run)
        ledger = json.loads((finished / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**ledger, "state": state}))
    assert main(["export", "--run", str(run), "--to", "hf", "--path", str(out)]) == 0
    assert (out / "model.safetensors").is_file() and not (out / "README.md").exists()


def test_card_is_no_part_of_what_names_a_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "final"
    shutil.copytree(finished / "models" / "final", folder)
    before = describe_checkpoint(str(folder))
    (folder / "README.md").write_text("scored again")
    assert describe_checkpoint(str(folder)) == before
    (folder / "tokenizer_config.json").write_text("{}")
    assert describe_checkpoint(str(folder)) != before


def test_license_is_that_of_the_parts_card_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n\nA model.\n")
    assert license_of(str(tmp_path)) == "mit"
    assert license_of("quickstart") == "apache-2.0"
    (tmp_path / "README.md").write_text("no front matter")
    assert license_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert license_of(str(tmp_path)) is None


def test_front_matter_has_a_license_only_where_all_parts_share_it(tmp_path: Path) -> None:
    parts = {"language_model": "owner/a", "vision_tower": "owner/b", "projector": "owner/c"}
    config = {"model": {"components": parts, "checkpoint": None}, "trainer": {}}
    settings = settings_of(config, "final")
    assert settings["parts"] == ["owner/a", "owner/b", "owner/c"]
    shared = metadata(tmp_path, settings, dict.fromkeys(settings["parts"], "mit"))
    assert shared.license == "mit" and shared.base_model == ["owner/a", "owner/b", "owner/c"]
    mixed = metadata(tmp_path, settings, {"owner/a": "mit", "owner/b": None, "owner/c": "mit"})
    assert mixed.license is None


def test_settings_of_a_stage_override_those_of_the_run() -> None:
    stages = {"final": {"model": {"lr": 2}, "trainer": {"max_epochs": 3}}, "reference": {}}
    config = {"model": {"lr": 1, "tune": "lora"}, "trainer": {"max_epochs": 1}, "stages": stages}
    assert settings_of(config, "final")["model"] == {"lr": 2, "tune": "lora"}
    assert settings_of(config, "final")["trainer"] == {"max_epochs": 3}
    assert settings_of(config, "reference")["model"]["lr"] == 1
