"""Choose which images deserve an instruction, then prove it by training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from presel_lightning.loading.datamodule import SelectionDataModule
    from presel_lightning.selectors.arrays import select

__version__ = "0.1.0"
__all__ = ["SelectionDataModule", "__version__", "select"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import torch only when somebody asks for what needs it."""
    if name == "SelectionDataModule":
        from presel_lightning.loading.datamodule import SelectionDataModule

        return SelectionDataModule
    if name == "select":
        from presel_lightning.selectors.arrays import select

        return select
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
