"""Loaders whose worker processes outlive a signal to the whole job."""

from __future__ import annotations

from multiprocessing.util import get_temp_dir
from typing import Any

from torch.utils.data import DataLoader

from presel_lightning.run.interruption import masked


class Loader(DataLoader[Any]):
    """A DataLoader that keeps signals from the worker processes it starts.

    Give it `worker_init_fn=obey_parent`, by which they end; one that met a signal before it came to
    that would end, and the step under way with it.
    """

    def __iter__(self) -> Any:  # noqa: ANN401 - torch's private iterator type
        """Start the worker processes."""
        if self.num_workers:
            get_temp_dir()  # theirs is this one from now on, and goes with this process
        with masked():
            return super().__iter__()
