"""Published benchmarks, scored offline from files in their published layouts."""

from __future__ import annotations

from presel_lightning.eval.benchmarks.offline.gqa import GQA
from presel_lightning.eval.benchmarks.offline.mmbench import MMBench
from presel_lightning.eval.benchmarks.offline.mme import MME
from presel_lightning.eval.benchmarks.offline.pope import POPE
from presel_lightning.eval.benchmarks.offline.scienceqa import ScienceQA
from presel_lightning.eval.benchmarks.offline.textvqa import TextVQA

__all__ = ["GQA", "MME", "POPE", "MMBench", "ScienceQA", "TextVQA"]
