"""Annotators: sources of the instructions of the selected images; one file each."""

from presel_lightning.annotators.base import (
    Annotator,
    AnswerProblem,
    Answers,
    AtMost,
    Report,
    Request,
    requests_for,
)
from presel_lightning.annotators.fiftyone import FiftyOne
from presel_lightning.annotators.from_file import FromFile
from presel_lightning.annotators.from_pool import FromPool
from presel_lightning.annotators.journal import Journal, read_answers
from presel_lightning.annotators.label_studio import LabelStudio
from presel_lightning.annotators.openai_compatible import OpenAICompatible
from presel_lightning.annotators.templates import prompt_for

__all__ = [
    "Annotator",
    "AnswerProblem",
    "Answers",
    "AtMost",
    "FiftyOne",
    "FromFile",
    "FromPool",
    "Journal",
    "LabelStudio",
    "OpenAICompatible",
    "Report",
    "Request",
    "prompt_for",
    "read_answers",
    "requests_for",
]
