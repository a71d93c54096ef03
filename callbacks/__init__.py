"""Callbacks of the Trainer."""

if __name__ != "presel_lightning.callbacks":
    raise ModuleNotFoundError(f"import presel_lightning.callbacks, not {__name__}")

from presel_lightning.callbacks.benchmark import Benchmark
from presel_lightning.callbacks.finite_fit import FiniteFit
from presel_lightning.callbacks.save_model import SaveModel
from presel_lightning.callbacks.save_moments import SaveMoments
from presel_lightning.callbacks.step_checkpoint import StepCheckpoint
from presel_lightning.callbacks.step_timer import StepTimer

__all__ = ["Benchmark", "FiniteFit", "SaveModel", "SaveMoments", "StepCheckpoint", "StepTimer"]
