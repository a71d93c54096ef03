"""The IRS loop, benchmarks and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if __name__ != "presel_lightning.eval":
    raise ModuleNotFoundError(f"import presel_lightning.eval, not {__name__}")

if TYPE_CHECKING:
    from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile
    from presel_lightning.eval.benchmarks.base import BenchmarkTask
    from presel_lightning.eval.irs import IRSLoop

__all__ = ["AnnotationFile", "BenchmarkTask", "IRSLoop"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import classes that need torch on first access; the report needs none."""
    if name == "IRSLoop":
        from presel_lightning.eval.irs import IRSLoop

        return IRSLoop
    if name in __all__:
        from presel_lightning.eval.benchmarks import annotation_file

        return getattr(annotation_file, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
