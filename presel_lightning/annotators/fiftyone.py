"""Instructions written in FiftyOne."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from presel_lightning.annotators.base import Annotator, AnswerProblem, Names, Report, Request
from presel_lightning.annotators.batches import write_batch
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.matching import Given, given_of, take
from presel_lightning.errors import UserError
from presel_lightning.run.files import write_json

SAMPLES = "samples.json"
SEVERAL = "a sample of FiftyOne shows one image; write this instruction by LabelStudio or FromFile"


class FiftyOne(Annotator):
    """Write datasets that FiftyOne imports, and read its export; FiftyOne itself is not called.

    While answers are missing, `fiftyone/batch-N/` in the folder of the answers is a dataset of
    type `fiftyone.types.FiftyOneDataset`: `metadata.json` and `samples.json`, whose samples have
    the empty fields `question` and `answer`. A later batch holds only new images. A request with
    several images is listed as a problem.

    Args:
        answers: folder of an export of that type, or its `samples.json`; may not exist yet.
        turns: number of questions of a sample: `question`, `question_2`, and so on.
    """

    rereads = True

    def __init__(self, answers: str | None = None, turns: int = 1) -> None:
        self.answers = Path(answers).expanduser() if answers else None
        if turns < 1:
            raise UserError(f"annotator.init_args.turns {turns}: at least 1")
        self.turns = turns

    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Read the export, then write a batch of the missing requests.

        Raises:
            UserError: the export is not in FiftyOne's format.
        """
        given = read_export(self.answers) if self.answers and self.answers.exists() else iter(())
        problems = take(given, requests, journal, names, type(self).__name__)
        single = [request for request in requests if not request.more]
        problems += [
            AnswerProblem(request.uid, request.image, "several_images", SEVERAL)
            for request in requests
            if request.more and request.uid not in journal
        ]
        open_ = write_batch(journal.folder / "fiftyone", single, journal, self._batch)
        where = self.answers or "a folder, and give it as annotator.init_args.answers"
        notes = [f"load {batch} into FiftyOne; export the data set to {where}" for batch in open_]
        return Report(problems, notes)

    def _batch(self, folder: Path, requests: Sequence[Request]) -> None:
        names = [
            what + ("" if number == 1 else f"_{number}")
            for number in range(1, self.turns + 1)
            for what in ("question", "answer")
        ]
        samples = [
            {
                "filepath": str(request.path.resolve()),
                "tags": [],
                "uid": request.uid,
                "task": request.task,
                "why": request.why,
                "prompt": request.prompt,
                **dict.fromkeys(names, ""),
            }
            for request in requests
        ]
        write_json(folder / "metadata.json", {"media_type": "image", "info": {}})
        write_json(folder / SAMPLES, {"samples": samples})


def read_export(path: Path) -> Iterator[Given]:
    """Read an exported dataset; samples with neither question nor answer are skipped.

    Raises:
        UserError: it is not in FiftyOne's format.
    """
    file = path / SAMPLES if path.is_dir() else path
    try:
        samples = json.loads(file.read_text(encoding="utf-8"))["samples"]
        named = [(sample["uid"], sample) for sample in samples]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"annotator.init_args.answers {file}: not the samples of a FiftyOneDataset that was "
            "loaded from the batches; export with dataset_type=fiftyone.types.FiftyOneDataset"
        ) from error
    for number, (uid, sample) in enumerate(named, start=1):
        yield given_of(f"sample {number}", {"uid": uid}, sample)
