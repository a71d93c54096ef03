"""What every signal has to hold to; a new one is found by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import presel_lightning.signals as package
from presel_lightning.errors import MissingSignalError
from presel_lightning.signals import Signal, Signals
from presel_lightning.signals.base import made_by

KINDS = sorted(Signal.known.values(), key=lambda kind: kind.name)
MODULES = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__", "base"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
class TestContract:
    def test_signal_lives_in_the_module_of_its_name(self, kind: type[Signal]) -> None:
        assert kind.__module__ == f"presel_lightning.signals.{kind.name}"
        assert kind.__doc__ and kind.read.__doc__

    def test_signal_path_lies_in_the_signals_folder(
        self, kind: type[Signal], tmp_path: Path
    ) -> None:
        path = kind(tmp_path / "signals").path
        assert path.parent == tmp_path / "signals" and path.name.startswith(kind.name)

    def test_absent_signal_is_named_with_its_folder(
        self, kind: type[Signal], tmp_path: Path
    ) -> None:
        signal = Signals(tmp_path).of(kind)
        assert not signal.exists()
        with pytest.raises(MissingSignalError, match=f"signal `{kind.name}`.*{tmp_path}.*needs"):
            signal.require()

    def test_signal_is_read_by_its_name(self, kind: type[Signal], tmp_path: Path) -> None:
        signals = Signals(tmp_path)
        assert getattr(signals, kind.name) == signals.of(kind).read

    def test_stages_belong_to_one_signal(self, kind: type[Signal]) -> None:
        others = [stage for each in KINDS if each is not kind for stage in each.artifacts]
        assert kind.artifacts and not set(kind.artifacts) & set(others)
        assert set(kind.artifacts) <= set(made_by(on_reference=kind.on_reference))


def test_known_signals_are_those_of_the_package() -> None:
    assert {kind.name for kind in KINDS} == MODULES


def test_unknown_signal_raises_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match=r"no signal 'feature'; known: .*features"):
        Signals(tmp_path).feature(None)


def test_signals_import_no_torch() -> None:
    code = "import presel_lightning.signals, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
