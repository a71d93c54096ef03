"""Files that anything later trusts are written by `run.files`: whole under their names, or not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("presel_lightning", "callbacks", "eval")
HELPERS = {"replacing", "replacing_folder", "new_folder"}

METHODS = {
    "write_text",
    "write_bytes",
    "save_pretrained",
    "write_table",
    "ParquetWriter",
    "to_parquet",
    "to_csv",
    "tofile",
    "save_file",
    "savefig",
    "save_torch_state_dict",
    "copyfile",
    "copytree",
    "copy2",
    "move",
    "savez",
    "open_memmap",
    "symlink_to",
    "touch",
}
OWNED = {("np", "save"), ("torch", "save"), ("sqlite3", "connect")}
OWNED |= {("shutil", "copy"), ("json", "dump"), ("pickle", "dump"), ("os", "replace")}
OWNED |= {("os", "rename")}

INTO_A_NEW_FOLDER = "its folder is one of `replacing_folder`, which the caller hands in"
EXCEPTIONS = {
    "presel_lightning/run/files.py": "the helpers themselves",
    "presel_lightning/run/arrays.py": "filled by its caller, in such a folder or in work/",
    "presel_lightning/export/influence_space.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/llava.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/__init__.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/llama_factory.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/llava.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/ms_swift.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/table.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/target.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/parquet_shards.py": INTO_A_NEW_FOLDER,
    "presel_lightning/export/selection/webdataset.py": INTO_A_NEW_FOLDER,
    "presel_lightning/filters/score_table.py": INTO_A_NEW_FOLDER,
    "presel_lightning/models/assemble.py": INTO_A_NEW_FOLDER,
    "presel_lightning/models/chat.py": INTO_A_NEW_FOLDER,
    "presel_lightning/models/llava.py": INTO_A_NEW_FOLDER,
    "presel_lightning/models/llava_processor.py": INTO_A_NEW_FOLDER,
    "presel_lightning/models/vicuna.py": INTO_A_NEW_FOLDER,
    "presel_lightning/tasks/two_tower.py": INTO_A_NEW_FOLDER,
    "presel_lightning/quickstart/world.py": INTO_A_NEW_FOLDER,
    "presel_lightning/data/unpack.py": INTO_A_NEW_FOLDER,
    "presel_lightning/run/line_file.py": "appends lines, each synced; see its test",
    "presel_lightning/data/image_memory.py": "SQLite has transactions of its own",
    "presel_lightning/compare/jobs.py": "logs, which nothing reads but people",
    "presel_lightning/compare/join.py": "a link, renamed to its place",
    "presel_lightning/quickstart/pretrain.py": "makes what the package ships, by hand",
}
"""Files that write in another way, and why they may."""


def sources() -> list[Path]:
    """The package's files, those behind its links under their own folders."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted({path.resolve() for path in files})


def writers(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that write, outside of a helper's `with`."""
    if isinstance(tree, ast.With) and any(map(is_helper, tree.items)):
        return
    if isinstance(tree, ast.Call) and is_writer(tree):
        yield tree
    for child in ast.iter_child_nodes(tree):
        yield from writers(child)


def is_helper(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and getattr(call.func, "id", None) in HELPERS


def is_writer(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("open", "OSFile"):
        given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
        modes = [part.value for part in given if isinstance(part, ast.Constant)]
        return any(
            isinstance(mode, str) and len(mode) < 5 and set(mode) & set("wax+") for mode in modes
        )
    if not isinstance(call.func, ast.Attribute):
        return name in METHODS - {"write_text"}  # `run.files.write_text`
    owner = getattr(call.func.value, "id", "")
    return name in METHODS or (owner, name) in OWNED


def test_every_writer_uses_the_helpers_or_is_listed() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): [call.lineno for call in calls]
        for path in sources()
        if (calls := list(writers(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found.keys() == EXCEPTIONS.keys(), {
        name: lines for name, lines in found.items() if name not in EXCEPTIONS
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("path.write_text(text)", 1),
        ("write_text(path, text)", 0),
        ("open(path, mode='ab')", 1),
        ("path.open('w', encoding='utf-8')", 1),
        ("path.open('rb')", 0),
        ("np.save(path, rows)", 1),
        (
            "with replacing(path) as temporary, temporary.open('wb') as handle:\n  np.save(handle, 1)",
            0,
        ),
        ("with path.open('wb') as handle:\n  torch.save(state, handle)", 2),
    ],
)
def test_writers_finds_what_writes_outside_of_the_helpers(code: str, expected: int) -> None:
    assert len(list(writers(ast.parse(code)))) == expected
