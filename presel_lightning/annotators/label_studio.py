"""Instructions written in Label Studio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from presel_lightning.annotators.base import Annotator, Names, Report, Request
from presel_lightning.annotators.batches import write_batch
from presel_lightning.annotators.journal import Journal
from presel_lightning.annotators.matching import Given, given_of, take
from presel_lightning.data.annotations import read_records
from presel_lightning.errors import UserError
from presel_lightning.run.files import write_json, write_text

LOCAL_FILES = "/data/local-files/?d="
"""URL prefix of Label Studio's local file serving."""


class LabelStudio(Annotator):
    """Write tasks that Label Studio imports, and read its export; no server is called.

    While answers are missing, `label_studio/batch-N/` in the folder of the answers holds
    `tasks.json` and the labeling configuration `config.xml`. A later batch holds only new images.

    Args:
        answers: the project exported as JSON (not JSON-MIN); may not exist yet.
        image_prefix: URL prefix of each image's percent-encoded path.
        turns: number of questions of the form.
    """

    rereads = True

    def __init__(
        self, answers: str | None = None, image_prefix: str = LOCAL_FILES, turns: int = 1
    ) -> None:
        self.answers = Path(answers).expanduser() if answers else None
        self.image_prefix = image_prefix
        if turns < 1:
            raise UserError(f"annotator.init_args.turns {turns}: at least 1")
        self.turns = turns

    def write(self, requests: Sequence[Request], journal: Journal, names: Names) -> Report:
        """Read the export, then write a batch of the missing requests.

        Raises:
            UserError: the export is not in Label Studio's format.
        """
        given = read_export(self.answers) if self.answers and self.answers.exists() else iter(())
        problems = take(given, requests, journal, names, type(self).__name__)
        open_ = write_batch(journal.folder / "label_studio", requests, journal, self._batch)
        where = self.answers or "a file, and give it as annotator.init_args.answers"
        notes = [
            f"import {b / 'tasks.json'} into Label Studio; export JSON to {where}" for b in open_
        ]
        return Report(problems, notes)

    def _batch(self, folder: Path, requests: Sequence[Request]) -> None:
        several = any(request.more for request in requests)
        tasks = [{"data": self._data(request, several)} for request in requests]
        write_text(folder / "config.xml", labeling_config(self.turns, several=several))
        write_json(folder / "tasks.json", tasks)

    def _data(self, request: Request, several: bool) -> dict[str, Any]:
        """Data of a task; `images` in a batch of which some requests have several."""
        urls = [self.image_prefix + quote(image) for image in request.images]
        found = {**request.record(), "image": urls[0]}
        return {**found, "images": urls} if several else found


def labeling_config(turns: int, *, several: bool = False) -> str:
    """Return the labeling form: the image, the prompt, and a question and an answer per turn.

    Args:
        turns: of a conversation.
        several: whether a task shows its list `images` rather than its `image`.
    """
    view = ElementTree.Element("View")
    shown = {"valueList": "$images"} if several else {"value": "$image"}
    ElementTree.SubElement(view, "Image", {"name": "image", **shown})
    ElementTree.SubElement(view, "Header", value="$prompt")
    for number in range(1, turns + 1):
        suffix = "" if number == 1 else f"_{number}"
        for what in ("question", "answer"):
            heading = what.capitalize() + suffix.replace("_", " ")
            ElementTree.SubElement(view, "Header", value=heading)
            ElementTree.SubElement(
                view,
                "TextArea",
                name=what + suffix,
                toName="image",
                rows="3",
                maxSubmissions="1",
                editable="true",
                required="true" if number == 1 else "false",
            )
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def read_export(path: Path) -> Iterator[Given]:
    """Read a project that was exported as JSON; tasks without an annotation are skipped.

    Raises:
        UserError: a task is not in Label Studio's format.
    """
    for number, task in enumerate(read_records(path), start=1):
        try:
            uid, image = task["data"]["uid"], task["data"].get("image", "")
            fields = {entry["from_name"]: _text(entry) for entry in _newest(task["annotations"])}
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(
                f"{path}, task {number}: not in Label Studio's format; export as JSON a "
                "project whose tasks were imported from tasks.json"
            ) from error
        yield given_of(f"task {number}", {"uid": uid, "image": image}, fields)


def _newest(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the result of the ground truth, else of the newest annotation; [] if skipped."""
    kept = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    if not kept:
        return []
    best = max(kept, key=lambda a: (bool(a.get("ground_truth")), a.get("updated_at") or ""))
    result: list[dict[str, Any]] = best["result"]
    return [entry for entry in result if entry.get("type") == "textarea"]


def _text(entry: dict[str, Any]) -> str:
    text = entry["value"]["text"]
    return text if isinstance(text, str) else "\n".join(text)
