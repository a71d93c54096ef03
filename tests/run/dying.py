"""A stage whose workers are killed; apart from the tests, as the workers import it."""

from __future__ import annotations

import os
import signal

from presel_lightning.run.units import Stage


class Dying(Stage):
    """The first process that does unit 2 is killed in it; unit 5 kills all."""

    def defined_by(self, number: int) -> object:
        return number

    def __call__(self, number: int) -> None:
        mark = self.folder / "killed"
        if (number == 2 and not mark.exists()) or number == 5:
            mark.mkdir(exist_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        self.manifest(number).write_text("{}")
