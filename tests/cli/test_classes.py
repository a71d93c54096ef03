"""Classes of a user's own files: why one cannot be used, and where one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from presel_lightning.cli.main import main
from tests.conftest import fit_arguments

FILES = {
    "lacking": "import no_such_library\n",
    "broken": "from torch import nn\nclass Mine(nn.Module)\n    pass\n",
    "failing": "table = {}\nrow = table['key']\n",
    "outdated": "from presel_lightning.selectors import NoSuchSelector\n",
    "own": """
import torch
from lightning import Callback
from presel_lightning.annotators import Annotator
from presel_lightning.eval.benchmarks.base import BenchmarkTask
from presel_lightning.selectors import RankSelector
from presel_lightning.selectors.weighting import Weighting

class Unfinished(RankSelector):
    def scores(self, pool, signals):
        return torch.zeros(len(pool))

class Share(Weighting):
    pass

class Bench(BenchmarkTask):
    name = "bench"

class Writer(Annotator):
    pass

class Foreign:
    pass

def chosen():
    pass

class Constant(RankSelector):
    def __init__(self, value: float = 0.0, length: int = 0, dtype: str = "float32", at: int = 0):
        self.value, self.length, self.dtype, self.at = value, length, dtype, at
        if value == -1:
            self.value = self.undefined
    def score(self, pool, signals):
        score = torch.arange(len(pool) + self.length).to(getattr(torch, self.dtype))
        if self.value:
            score[self.at] = self.value
        return score

class Wrong(RankSelector):
    def score(self, pool, signals):
        return torch.zeros(len(pool)) + torch.zeros(3)
""",
}
UNUSABLE = {
    "missing library": (
        ["--selector", "lacking.Mine"],
        "lacking.Mine cannot be imported: lacking.py, line 1: ModuleNotFoundError: No module named",
    ),
    "invalid syntax": (
        ["--selector", "broken.Mine"],
        "broken.py, line 2: SyntaxError: expected ':' in `class Mine(nn.Module)`",
    ),
    "error of the module": (["--selector", "failing.Mine"], "failing.py, line 2: KeyError: 'key'"),
    "name that is gone": (
        ["--selector", "outdated.Mine"],
        "outdated.py, line 1: ImportError: cannot",
    ),
    "missing method": (
        ["--selector", "own.Unfinished"],
        "selector own.Unfinished (own.py, line 9) lacks score(self, pool: 'Pool', signals: 'Signals'",
    ),
    "misspelt method": (["--selector", "own.Unfinished"], "'scores' may be meant for 'score'"),
    "benchmark by its class path": (
        ["--benchmarks", "[{class_path: own.Bench}]"],
        "benchmarks own.Bench (own.py, line 16) lacks",
    ),
    "misspelt class": (["--selector", "own.Unfinshed"], "own.py has no 'Unfinshed'; its classes"),
    "misspelt module": (["--selector", "onw.Unfinished"], "no module 'onw' in the current folder"),
    "misspelt shipped class": (
        ["--selector", "presel_lightning.selectors.PreSell"],
        "did you mean PreSel?",
    ),
    "class of another kind": (
        ["--selector", "own.Foreign"],
        "selector own.Foreign (own.py, line 22) is not derived from Selector",
    ),
    "function": (["--selector", "own.chosen"], "is a function; give a class derived from Selector"),
    "benchmark, missing library": (
        ["--benchmarks", "[{class_path: lacking.Mine}]"],
        "lacking.py, line 1",
    ),
    "benchmark, missing methods": (
        ["--benchmarks", "[own.Bench]"],
        "own.Bench (own.py, line 16) lacks",
    ),
    "annotator, invalid syntax": (["--annotator", "broken.Mine"], "broken.py, line 2: SyntaxError"),
    "annotator, missing methods": (
        ["--annotator", "own.Writer"],
        "own.Writer (own.py, line 19) lacks",
    ),
    "callback, missing library": (["--trainer.callbacks", "[lacking.Mine]"], "lacking.py, line 1"),
    "callback, misspelt": (["--trainer.callbacks", "own.Calback"], "own.py has no 'Calback'"),
    "weighting, missing library": (
        ["--selector.init_args.weighting", "lacking.Mine"],
        "lacking.py, line 1",
    ),
    "weighting, missing method": (
        ["--selector.init_args.weighting", "own.Share"],
        "own.Share (own.py, line 13) lacks weights(",
    ),
    "class in a list of compare": (
        ["--selectors", "broken.Mine"],
        "broken.py, line 2: SyntaxError",
    ),
}
RETURNED = {
    "NaN": ({"value": ".nan", "at": "70"}, 2, "selector Constant returned a score of nan for "),
    "infinity": ({"value": ".inf"}, 2, "1 of 130 are NaN or infinite); return finite scores"),
    "another shape": ({"length": "1"}, 2, "returned scores of shape (131,) for 130 samples"),
    "truth values": ({"dtype": "bool"}, 2, "selector Constant returned scores of dtype bool"),
    "complex numbers": ({"dtype": "complex64"}, 2, "returned scores of dtype complex64"),
    "an error in the constructor": (
        {"value": "-1"},
        1,
        "own.py, line 32, in __init__: AttributeError: 'Constant' object has no attribute",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with files of a user's own, found as `python -m` finds them."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in FILES:
            del sys.modules[name]


@pytest.mark.parametrize(("more", "names"), UNUSABLE.values(), ids=UNUSABLE)
def test_own_class_that_cannot_be_used_is_answered_with_its_file_line_and_cause(
    more: list[str],
    names: str,
    folder: Path,
    pool_folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = fit_arguments(pool_folder, folder / "run", *more)
    if more[0] == "--selectors":
        arguments[0] = "compare"
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert names in error and error.count("\n") == 1 and "Traceback" not in error


def test_debug_shows_the_whole_trace_of_an_import(folder: Path, pool_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"failing.py, line 2") as raised:
        main([*fit_arguments(pool_folder, folder / "run", "--selector", "failing.Mine"), "--debug"])
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize(("options", "code", "names"), RETURNED.values(), ids=RETURNED)
def test_what_an_own_selector_returns_is_refused_by_its_name(
    options: dict[str, str],
    code: int,
    names: str,
    folder: Path,
    pool_folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    more = ["--selector", "own.Constant"]
    for name, value in options.items():
        more += [f"--selector.init_args.{name}", value]
    assert main(["select", *fit_arguments(pool_folder, folder / "run", *more)[1:]]) == code
    error = capfd.readouterr().err
    assert names in error and error.count("\n") == 1 and "Traceback" not in error
    assert not (folder / "run/selection/selection.parquet").exists()


def test_error_in_an_own_class_names_its_line_and_debug_shows_the_trace(
    folder: Path, pool_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "select",
        *fit_arguments(pool_folder, folder / "run", "--selector", "own.Wrong")[1:],
    ]
    assert main(arguments) == 1
    error = capfd.readouterr().err
    assert "presel_lightning: own.py, line 41, in score: RuntimeError: The size of" in error
    assert "--debug shows the whole trace" in error and error.count("\n") == 1
    with pytest.raises(RuntimeError, match="The size of tensor"):
        main([*arguments, "--debug"])


def test_console_script_finds_classes_of_the_current_folder(
    folder: Path, pool_folder: Path
) -> None:
    """A script has its own folder first on the path, and not the current one."""
    script = folder / "bin" / "presel-lightning"
    script.parent.mkdir()
    script.write_text("from presel_lightning.__main__ import run\nrun()\n")
    root = str(Path(__file__).parents[2])
    found = subprocess.run(
        [
            sys.executable,
            str(script),
            *fit_arguments(pool_folder, folder / "run", "--selector", "own.Unfinished"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert found.returncode == 2 and "own.Unfinished (own.py, line 9) lacks score" in found.stderr
