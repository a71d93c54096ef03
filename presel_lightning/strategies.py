"""The former place of `DeepSpeed`, which people's configs name."""

from presel_lightning.tasks.strategies import DeepSpeed

__all__ = ["DeepSpeed"]
