"""The folders at the root are packages of `presel_lightning`, and of nothing else."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["callbacks", "eval", "configs", "docs"])
def test_package_links_point_to_the_root_folders(name: str) -> None:
    link = ROOT / "presel_lightning" / name
    assert link.is_symlink() and link.resolve() == ROOT / name


@pytest.mark.parametrize("name", ["callbacks", "eval"])
def test_root_folders_are_not_importable_as_top_level(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"import presel_lightning.{name}"):
        importlib.import_module(name)


def test_light_commands_do_not_import_torch() -> None:
    code = (
        "import sys; from presel_lightning.cli.main import main; "
        "assert main(['--help']) == 0; assert main(['report', '--run', 'nowhere']) == 2; "
        "import presel_lightning.eval.report.report; "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def pages_named_in(folder: Path) -> set[str]:
    """Pages of docs/ that messages, help texts and configs name, as files and as headings."""
    files = [path for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".html")]
    named = re.compile(r"""(?:\bdocs/|\bpage\(["'])([a-z_0-9]+\.md(?:#[\w-]+)?)""")
    return {name for path in files for name in named.findall(path.read_text(encoding="utf-8"))}


def has_page(folder: Path, name: str) -> bool:
    """Whether a page is there, and the heading in it, if one is named."""
    file, _, anchor = name.partition("#")
    if not (folder / file).is_file():
        return False
    headings = re.findall("^#+ (.*)", (folder / file).read_text(encoding="utf-8"), re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return not anchor or anchor in anchors


def test_wheel_contains_configs_callbacks_and_pages(tmp_path: Path) -> None:
    """Built and installed in an empty environment that borrows the dependencies of this one."""
    tree = tmp_path / "tree"  # a build leaves traces, and takes up those of an older one
    unwanted = [".*", "build", "*.egg-info", "runs", "tests"]
    unwanted.append("__pycache__")  # other tests' processes rename files there meanwhile
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*unwanted))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(tree)],
        check=True,
    )
    wheel = next(tmp_path.glob("presel_lightning-*.whl"))
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = next(environment.glob("lib/python3*/site-packages"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    borrowed = [p for p in sys.path if p.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    code = (
        "import presel_lightning.cli.configs as cli, presel_lightning.callbacks as c, pathlib, sys; "
        "assert (cli.configs_folder() / 'llava15.yaml').is_file(); assert c.Benchmark; "
        "assert pathlib.Path(cli.__file__).is_relative_to(sys.argv[1]); "
        "from presel_lightning import quickstart; "
        "assert (quickstart.CHECKPOINT / 'config.json').is_file(); "
        "from presel_lightning.run.pages import page; assert pathlib.Path(page('models.md')).is_file(); "
        "from importlib import resources; "
        "assert (resources.files('presel_lightning.review') / 'page' / 'page.js').is_file()"
    )
    subprocess.run([python, "-I", "-c", code, str(environment)], check=True, cwd=tmp_path)
    for name in ("eval", "callbacks", "docs"):
        assert not (site / name).exists()
    named = pages_named_in(site / "presel_lightning")
    assert {"annotate.md", "models.md", "selectors.md"} <= named
    assert [name for name in named if not has_page(site / "presel_lightning" / "docs", name)] == []


def test_package_root_holds_only_what_everything_shares() -> None:
    """`strategies` is the former place of `DeepSpeed`, which people's configs name."""
    modules = {path.stem for path in (ROOT / "presel_lightning").glob("*.py")}
    shared = {"__init__", "__main__", "records", "errors", "console"}
    assert modules == shared | {"strategies"}


def test_every_package_says_what_is_in_it() -> None:
    for init in sorted((ROOT / "presel_lightning").rglob("__init__.py")):
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init


def test_tests_lie_in_folders_of_the_package() -> None:
    others = {"bench", "configs", "shared"}
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")}
    for folder in folders - {Path()}:
        package = ROOT / "presel_lightning" / folder
        assert folder.parts[0] in others or package.is_dir(), f"tests/{folder} mirrors no package"


@pytest.mark.parametrize(
    ("former", "name"), [("eval.annotation_file", "AnnotationFile"), ("strategies", "DeepSpeed")]
)
def test_former_import_paths_lead_to_the_same_class(former: str, name: str) -> None:
    module = importlib.import_module(f"presel_lightning.{former}")
    assert getattr(module, name).__module__ != module.__name__
