"""A DataModule's part for a fit that is continued: the place in the epoch is in its checkpoint."""

from __future__ import annotations

from typing import Any

from lightning import LightningDataModule

from presel_lightning.loading.samplers import ResumableLoader


class ResumableDataModule(LightningDataModule):
    """Keeps the place in the epoch, and gives it to the loader of a continued fit."""

    def __init__(self) -> None:
        super().__init__()
        self._loader: ResumableLoader | None = None
        self._place: dict[str, int] = {}

    def continued(self, loader: ResumableLoader) -> ResumableLoader:
        """Keep the loader of the fit, and have it go on from where a continued fit was."""
        self._loader = loader
        if self._place:
            loader.load_state_dict(self._place)
            self._place = {}
        return loader

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch, for a training checkpoint."""
        return self._loader.state_dict() if self._loader is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the place for the next loader.

        Lightning would give it to the loader itself, but only to one that is made after the
        checkpoint is read, and the learning-rate schedule asks for its length before that.
        """
        if self._loader is None:
            self._place = state_dict
        else:  # a model cut over devices is read after the loader is made
            self._loader.load_state_dict(state_dict)
