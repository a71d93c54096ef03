"""The nine columns of the paper's tables: task, metric and requirements of each score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

JUDGE_KEY = "OPENAI_API_KEY"
"""Environment variable with the API key of lmms-eval's judge."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its task and metric in lmms-eval, and the offline class.

    Attributes:
        name: name in the tables and in `full_scores`.
        task: task of lmms-eval 0.7.3.
        metric: metric of that task; its key in the results is `<metric>,none`.
        scale: factor from the metric to the tables' unit.
        split: split that the task scores.
        paper_split: split of LLaVA's evaluation, which the paper follows.
        judge: whether scoring calls a language model over the network.
        offline: class in `presel_lightning.eval.benchmarks.offline`; None where there is none.
        note: known differences to the table's score.
    """

    name: str
    task: str
    metric: str
    scale: float
    split: str
    paper_split: str
    judge: bool = False
    offline: str | None = None
    note: str = ""

    def skipped(self, environment: Mapping[str, str]) -> str | None:
        """Return why lmms-eval cannot score this column here; None where it can."""
        if self.judge and not environment.get(JUDGE_KEY):
            return f"{self.name} ({self.task}) is scored by a judge; set {JUDGE_KEY}"
        return None


COLUMNS = (
    Column(
        name="VQAv2",
        task="vqav2_val",
        metric="exact_match",
        scale=100,
        split="val",
        paper_split="test-dev",
        note="answers of test-dev are on the challenge's server only: task vqav2_test writes the "
        "file to hand in",
    ),
    Column(
        name="SQA-I",
        task="scienceqa_img",
        metric="exact_match",
        scale=100,
        split="test",
        paper_split="test, questions with an image",
        offline="ScienceQA",
    ),
    Column(
        name="TextVQA",
        task="textvqa_val",
        metric="exact_match",
        scale=100,
        split="validation",
        paper_split="validation (0.5.1)",
        offline="TextVQA",
        note="LLaVA's prompts name OCR tokens, the task's do not by default",
    ),
    Column(
        name="MME",
        task="mme",
        metric="mme_perception_score",
        scale=1,
        split="test",
        paper_split="test, perception",
        offline="MME",
        note="points up to 2000",
    ),
    Column(
        name="MMB-en",
        task="mmbench_en_dev_static",
        metric="gpt_eval_score",
        scale=1,
        split="dev",
        paper_split="dev (20230712)",
        offline="MMBench",
        note="read without a judge; task mmbench_en_dev asks one about answers that name no option",
    ),
    Column(
        name="MMB-cn",
        task="mmbench_cn_dev",
        metric="gpt_eval_score",
        scale=1,
        split="dev",
        paper_split="dev (20231003)",
        judge=True,
        offline="MMBench",
        note="offline with `language: cn`, without a judge",
    ),
    Column(
        name="SEED",
        task="seedbench",
        metric="seed_image",
        scale=100,
        split="test",
        paper_split="images",
        note="the table's 66.8 fits the images, not images and video; the paper does not say",
    ),
    Column(
        name="MM-Vet",
        task="mmvet",
        metric="gpt_eval_score",
        scale=1,
        split="test",
        paper_split="test",
        judge=True,
        note="scores follow the judge's version",
    ),
    Column(
        name="POPE",
        task="pope",
        metric="pope_f1_score",
        scale=100,
        split="test",
        paper_split="test, mean F1 of random, popular and adversarial",
        offline="POPE",
        note="the task pools the three categories",
    ),
)
"""Task, metric and split are those of lmms-eval's YAML files; paper splits of LLaVA's scripts."""


def column(name: str) -> Column:
    """Return the column of a name.

    Raises:
        KeyError: there is none.
    """
    return {found.name: found for found in COLUMNS}[name]
