"""The model in memory as a model class of lmms-eval, and relocatable task folders.

Imported only where lmms-eval is installed. It depends on these facts of lmms-eval 0.7.3 (therefore
pinned):

- a multiple-choice task selects the option of the *smallest* number, so a loss is returned, and
  `GenerationResult` prevents the conversion of the pair to text;
- `clean` is called after the last request;
- `simple_evaluate` gets its tasks from the task manager by `load_task_or_group`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmms_eval import evaluator
from lmms_eval.api import task as task_module
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.tasks import TaskManager
from PIL import Image

from presel_lightning.data.conversation import without_image_token
from presel_lightning.data.pixels import rgb_of
from presel_lightning.eval.benchmarks.model_benchmark import LiveModel
from presel_lightning.records import Turn
from presel_lightning.run.ranks import rank_zero

PARAGRAPH = "\n\n"
"""lmms-eval adds it to every task's `until`; its LLaVA classes ignore it, and so does this one."""


bar = evaluator.tqdm


def no_bar(*args: Any, **options: Any) -> Any:  # noqa: ANN401
    """Replace the progress bars of lmms-eval; `LiveModel.spread` shows its own."""
    return bar(*args, **{**options, "disable": True})


evaluator.tqdm = task_module.tqdm = no_bar


class Answered(Exception):
    """Ends lmms-eval on a process other than the first, which computes the score."""


class InMemory(lmms):  # type: ignore[misc]
    """Answers the requests of lmms-eval, which sees one process.

    Each process has all requests, answers its own blocks, and gathers all answers.

    Args:
        live: the model.
        max_new_tokens: maximum tokens of an answer where the task sets none.
        one_image_only: answer a question with no or several images with an empty text instead of
            failing.
    """

    def __init__(self, live: LiveModel, max_new_tokens: int, one_image_only: bool) -> None:
        super().__init__()
        self.live = live
        self.max_new_tokens = max_new_tokens
        self.one_image_only = one_image_only

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return greedy answers, truncated at the first of the task's stop strings."""
        limits = [self._limit(request.args[1]) for request in requests]
        answers = [""] * len(requests)
        for limit in sorted(set(limits)):
            rows = [row for row, own in enumerate(limits) if own == limit]
            part = [requests[row] for row in rows]
            lengths = [len(request.args[0]) for request in part]
            made = self.live.spread(
                lengths,
                lambda block, part=part, limit=limit: self._generate(  # type: ignore[misc]
                    [part[i] for i in block], limit
                ),
                f"{part[0].task_name}: answering",
            )
            for row, text in zip(rows, made, strict=True):
                answers[row] = text
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """Return the mean token loss of each option, and whether it is the greedy answer."""
        lengths = [len(f"{request.args[0]}{request.args[1]}") for request in requests]
        found = self.live.spread(
            lengths,
            lambda block: self._losses([requests[i] for i in block]),
            f"{requests[0].task_name}: scoring options",
        )
        return [GenerationResult(text=pair) for pair in found]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Raise, as tasks of several rounds are not supported."""
        raise NotImplementedError("tasks of several rounds are not supported")

    def clean(self) -> None:
        """Keep the model in memory, and leave the scoring to the first process."""
        if not rank_zero():
            raise Answered

    def _limit(self, options: dict[str, Any]) -> int:
        if options.get("do_sample") or options.get("num_beams", 1) > 1:
            raise ValueError(
                "the task uses sampling or beam search; only greedy decoding is supported"
            )
        return int(options.get("max_new_tokens") or self.max_new_tokens)

    def _generate(self, requests: Sequence[Instance], limit: int) -> list[str]:
        images = [self._image(request) for request in requests]
        shown = [row for row, image in enumerate(images) if image is not None]
        answers = [""] * len(requests)
        if shown:
            asked = [((), str(requests[row].args[0]), images[row]) for row in shown]
            made = self.live.generate(self.live.encoder.prompts(asked), limit)
            for row, text in zip(shown, made, strict=True):
                answers[row] = truncate_at(text, requests[row].args[1].get("until"))
        return answers

    def _losses(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        turns = []
        for request in requests:
            image = self._image(request)
            if image is None:
                raise ValueError(
                    "a multiple-choice item needs one image; `one_image_only` is for generation"
                )
            question, option = request.args[0], request.args[1]
            if callable(option):
                option = option(self._doc(request))
            turns.append((Turn(without_image_token(str(question)), str(option).strip()), image))
        return self.live.losses(turns)

    def _doc(self, request: Instance) -> Any:  # noqa: ANN401 - a task's own record
        *_, doc_id, task, split = request.args
        return self.task_dict[task][split][doc_id]

    def _image(self, request: Instance) -> Image.Image | None:
        """Return the image of a question; None where it has not one and that is allowed."""
        shown = [
            image for image in (request.args[2](self._doc(request)) or []) if image is not None
        ]
        if len(shown) == 1:
            return rgb_of(shown[0], self.live.pixels)
        if self.one_image_only:
            return None
        raise ValueError(
            f"item {request.doc_id} has {len(shown)} images; the model reads one. Set "
            "`one_image_only` if the metric skips such items"
        )


def truncate_at(text: str, stops: str | list[str] | None) -> str:
    """Truncate an answer at the first of a task's stop strings."""
    for stop in [stops] if isinstance(stops, str) else stops or []:
        if stop and stop != PARAGRAPH:
            text = text.split(stop)[0]
    return text.strip()


class Tasks(TaskManager):  # type: ignore[misc]
    """Task manager of a folder or of lmms-eval's built-in tasks; each task is loaded once.

    Relative data paths of a YAML file are resolved against its folder first.
    """

    loaded: dict[Any, Any] | None = None

    def load_task_or_group(self, names: list[str], task_type: str = "simple") -> dict[Any, Any]:
        """Return the task objects by name."""
        if self.loaded is None:
            self.loaded = super().load_task_or_group(names, task_type)
        return self.loaded

    def _get_config(self, name: str) -> dict[str, Any]:
        config: dict[str, Any] = super()._get_config(name)
        if not config:
            return config
        folder = Path(self._get_yaml_path(name)).parent
        options = config.get("dataset_kwargs") or {}
        if "data_files" in options:
            files = _beside(options["data_files"], folder)
            config = {**config, "dataset_kwargs": {**options, "data_files": files}}
        if options.get("load_from_disk"):
            config = {**config, "dataset_path": _beside(config["dataset_path"], folder)}
        return config


def _beside(files: Any, folder: Path) -> Any:  # noqa: ANN401 - a path, or lists and dicts of them
    if isinstance(files, dict):
        return {split: _beside(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_beside(value, folder) for value in files]
    relative = isinstance(files, str) and not Path(files).is_absolute() and "://" not in files
    return str(folder / files) if relative and any(folder.glob(files)) else files


def tasks(names: list[str], include_path: str | None) -> Tasks:
    """Return a task manager with these tasks; built-in tasks are read only where needed.

    Raises:
        KeyError: there is no task of a name.
    """
    manager = Tasks(include_path=include_path, include_defaults=False)
    if not set(names) <= set(manager.all_tasks):
        manager = Tasks(include_path=include_path)
    if unknown := sorted(set(names) - set(manager.all_tasks)):
        raise KeyError(", ".join(unknown))
    return manager
