"""Errors that name their cure; `cli.main` turns each into one line and an exit code."""

from __future__ import annotations

__all__ = ["InstructionsMissing", "PreselError", "UserError"]


class PreselError(Exception):
    """Base of the errors that a user is meant to read."""

    exit_code = 1
    reported = False
    """Whether another process prints it."""

    @classmethod
    def with_code(cls, exit_code: int, message: str, *, reported: bool = False) -> PreselError:
        """The error of another process, with its exit code."""
        error = cls(message)
        error.exit_code, error.reported = exit_code, reported
        return error


class UserError(PreselError, ValueError):
    """A mistake in the command, the configuration or the data; the message says what to change."""

    exit_code = 2


class StorageError(UserError, OSError):
    """A folder that is full, over its quota or not writable; the message names it.

    Args:
        message: one line.
        number: the system's error number.
        needed: bytes that are needed at least, as far as they are known.
    """

    def __init__(self, message: str, number: int | None = None, needed: int = 0) -> None:
        super().__init__(message)
        self.errno, self.needed = number, needed


class MissingSignalError(UserError):
    """A selector asks for a per-sample signal that does not lie on disk."""

    def __init__(self, name: str, folder: object) -> None:
        super().__init__(
            f"signal `{name}` is not in {folder}; add it to the selector's `needs` so that the recipe "
            "makes it, run `select` first, or make it alone: python -m presel_lightning prepare "
            f"--config FILE --signals {name} --out RUN"
        )


class InstructionsMissing(PreselError):
    """The run waits: chosen images have no instruction yet."""

    exit_code = 3


class Diverged(PreselError):
    """A fit has a loss or weights that are not finite; the message names step, task and rate."""
