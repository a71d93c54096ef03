"""Callbacks of the Trainer."""

if __name__ != "presel_lightning.callbacks":
    raise ModuleNotFoundError(f"import presel_lightning.callbacks, not {__name__}")

from presel_lightning.callbacks.benchmark import Benchmark
from presel_lightning.callbacks.finite_fit import FiniteFit as FiniteFit
from presel_lightning.callbacks.save_model import SaveModel as SaveModel
from presel_lightning.callbacks.save_moments import SaveMoments as SaveMoments
from presel_lightning.callbacks.save_warm_up import SaveWarmUp as SaveWarmUp
from presel_lightning.callbacks.stage_bar import StageBar as StageBar
from presel_lightning.callbacks.step_checkpoint import StepCheckpoint as StepCheckpoint
from presel_lightning.callbacks.step_counter import StepCounter as StepCounter
from presel_lightning.callbacks.step_timer import StepTimer as StepTimer

__all__ = ["Benchmark"]
