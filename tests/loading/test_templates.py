"""System prompts that conversations bring of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from presel_lightning.cli.main import main
from presel_lightning.loading.templates import TEMPLATES
from presel_lightning.records import Turn, image_first
from tests.conftest import fit_arguments

TURNS = (Turn("Q1", "A1", system="Answer in French."), Turn("Q2", "A2", image_here=True))


@pytest.mark.parametrize("name", TEMPLATES)
def test_render_puts_the_own_system_prompt_in_place_of_the_templates(name: str) -> None:
    template = TEMPLATES[name]
    for with_question in (True, False):
        plain = template.render(
            [Turn(t.question, t.answer, t.image_here) for t in TURNS], with_question=with_question
        )
        own = template.render(TURNS, with_question=with_question)
        answers = [own.text[start:end] for start, end in own.answer_spans]
        assert answers == [plain.text[start:end] for start, end in plain.answer_spans]
        if template.system:
            assert own.text == plain.text.replace(template.system, "Answer in French.")
        else:
            assert own.text == plain.text
    assert template.has_system == bool(template.system)
    assert image_first(TURNS)[0].system == "Answer in French."


def test_fit_says_that_a_template_has_no_place_for_system_prompts(
    pool_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((pool_folder / "train.json").read_text())
    for record in records:
        record["system"] = "Be brief."
    (tmp_path / "a.json").write_text(json.dumps(records))
    arguments = fit_arguments(pool_folder, tmp_path / "run", "--selector", "Random")
    arguments += ["--data.annotations", str(tmp_path / "a.json"), "--baselines", "[]"]
    arguments += ["--data.image_root", str(pool_folder), "--benchmarks", "[]"]
    assert main([*arguments, "--data.template", "vicuna_bare"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "32 samples bring a system prompt" in told and "no place for one" in told
