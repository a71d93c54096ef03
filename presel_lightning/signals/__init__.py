"""Per-sample facts that selectors read from disk; one file a signal."""

from presel_lightning.signals.base import Signals

__all__ = ["Signals"]
