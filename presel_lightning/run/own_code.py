"""Classes of a user's own files: what keeps one from being used, and where its code failed."""

from __future__ import annotations

import importlib
import inspect
import sysconfig
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from pkgutil import iter_modules

import presel_lightning
from presel_lightning.errors import UserError


def find_class(path: str) -> object:
    """Import what a dotted path names, `module.Class`.

    Raises:
        UserError: the module is not there or cannot be imported, or does not have the name; the
            message has file, line and cause, and the error itself is its cause.
    """
    parts = path.split(".")
    for n in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:n]))
        except Exception as error:
            if is_absent(error, parts[:n]):
                continue
            raise UserError(f"{path} cannot be imported: {describe(error)}") from error
        for name in parts[n:]:
            if not hasattr(found, name):
                raise UserError(f"{path}: {missing_name(found, name)}")
            found = getattr(found, name)
        return found
    own = [file.stem for file in Path().glob("*.py")]
    near = get_close_matches(parts[0], own, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(
        f"{path}: no module {parts[0]!r} in the current folder {Path().absolute()}, PYTHONPATH or the "
        f"installed packages{hint}"
    )


def is_absent(error: Exception, parts: list[str]) -> bool:
    """Return whether a module itself, or a package around it, does not exist."""
    around = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return isinstance(error, ModuleNotFoundError) and error.name in around


def missing_name(owner: object, name: str) -> str:
    """Describe that a module or class has no such name, with the classes that it has."""
    file: str | None = getattr(owner, "__file__", None)
    place = shown(str(file or getattr(owner, "__name__", "")))
    classes = [
        n for n, value in vars(owner).items() if inspect.isclass(value) and is_public(value, owner)
    ]
    modules = [found.name for found in iter_modules(getattr(owner, "__path__", []))]
    near = get_close_matches(name, [*classes, *modules], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    has = f"; its classes are {', '.join(classes)}" if classes else ""
    return f"{place} has no {name!r}{has}{hint}"


def is_public(value: type, owner: object) -> bool:
    """Return whether a module defines a class, or names it in `__all__`."""
    inside = getattr(owner, "__name__", "")
    return value.__module__ == inside or value.__name__ in getattr(owner, "__all__", ())


def fault_of(found: object, path: str, base: str) -> str | None:
    """Return what keeps an object from being used as a class of a kind; None if nothing does.

    Args:
        found: what `find_class` returned.
        path: its dotted path, for the message.
        base: name of the class that it must be derived from.
    """
    if not inspect.isclass(found):
        what = type(found).__name__
        return f"{path}{place_of(found)} is a {what}; give a class derived from {base}"
    if base not in [parent.__name__ for parent in found.__mro__]:
        return f"{path}{place_of(found)} is not derived from {base}; write class {found.__name__}({base})"
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        methods = {name: getattr(found, name) for name in missing}
        needed = ", ".join(  # an abstract property has no signature
            f"{n}{inspect.signature(m)}" if callable(m) else n for n, m in methods.items()
        )
        own = [name for name, value in vars(found).items() if inspect.isfunction(value)]
        near = {name: get_close_matches(name, own, n=1) for name in missing}
        hints = [f"; its {n[0]!r} may be meant for {name!r}" for name, n in near.items() if n]
        return f"{path}{place_of(found)} lacks {needed}{''.join(hints)}"
    return None


def place_of(found: object) -> str:
    """Return where an object is defined, ` (FILE, line N)`; empty where that is unknown."""
    try:
        file, (_, line) = inspect.getsourcefile(found), inspect.getsourcelines(found)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return f" ({shown(str(file))}, line {line})"


def failure(error: BaseException) -> str | None:
    """Describe where the user's own code failed, in one line; None where none was running.

    That is the innermost line of the outermost error that has such a line: an error that a library
    wraps in its own still has its place.
    """
    for each in chain(error):
        if any(is_own(frame.filename) for frame in traceback.extract_tb(each.__traceback__)):
            return describe(each)
    return None


def describe(error: BaseException) -> str:
    """Format an error as file, line, kind and message; the line is one of own code if there is one."""
    message = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename:
        code = f" in `{error.text.strip()}`" if error.text else ""
        return f"{shown(error.filename)}, line {error.lineno}: {type(error).__name__}: {error.msg}{code}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_file()]
    own = [frame for frame in frames if is_own(frame.filename)]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if not (own or frames):
        return what
    frame = (own or frames)[-1]
    inside = "" if frame.name == "<module>" else f", in {frame.name}"
    return f"{shown(frame.filename)}, line {frame.lineno}{inside}: {what}"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that caused it, the outermost first, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_own(file: str) -> bool:
    """Return whether a file is the user's: not of this package, Python or an installed package."""
    path = Path(file)
    if not path.is_file() or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(path.resolve().is_relative_to(folder) for folder in others_folders())


@cache
def others_folders() -> tuple[Path, ...]:
    """Folders of Python itself and of this package, whose parts may be links."""
    ours = Path(presel_lightning.__file__).parent
    python = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    return tuple(p.resolve() for p in (ours, ours / "callbacks", ours / "eval", *python))


def shown(file: str) -> str:
    """Return a file's path, relative to the current folder where it lies in it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
