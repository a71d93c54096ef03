"""One-line messages for the errors of jsonargparse, with the nearest valid names."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml

from presel_lightning.errors import UserError

ELSEWHERE = {
    "learning_rate": "model.lr",
    "epochs": "trainer.max_epochs",
    "num_train_epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "train_batch_size": "data.batch_size",
    "per_device_train_batch_size": "data.micro_batch_size",
    "per_device_eval_batch_size": "data.eval_batch_size",
    "gradient_accumulation_steps": "data.micro_batch_size",
    "lora_rank": "model.lora.r",
    "lora_r": "model.lora.r",
    "lora_alpha": "model.lora.alpha",
    "model_name_or_path": "model.checkpoint",
    "dataset": "data.annotations",
    "data_path": "data.annotations",
    "image_folder": "data.image_root",
    "output_dir": "out",
    "seed": "seed_everything",
}
"""Keys by the names that LLaVA, LLaMA-Factory, ms-swift and TRL use."""

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "NoneType": "null",
    "list": "a list '[a, b]'",
}
"""Names of Python types in messages."""

NO_CLASS = re.compile(
    r"dot import path string: (\S+)|class_path '(\S+)':\s*No module|but (\S+) is abstract|"
    r"not correspond to a subclass"
)
"""Error: a name that is not a class, or a class of another kind."""

NO_ARGUMENT = re.compile(
    r"class_path '(\S+)':\s*(?:Option '(.*?)' is not accepted|unrecognized arguments: --([\w.]+))"
)
"""Error: a class with an unknown argument."""

NESTED = re.compile(
    r"class_path '\S+':\s*(Parser key \"(\w+)\":\s*Does not validate against any of the Union subtypes\s*"
    r"Subtypes: \[<class '([\w.]+)'>.*)",
    re.DOTALL,
)
"""Error: an argument that is a class itself: the inner message, its name and base class."""


IN_SECTION = re.compile(
    r"Unable to load config .*?Parser key \"([\w.]+)\":\s*((?:Not of|Expected|Does not).*)",
    re.DOTALL,
)
"""Error: a value of one key in a mapping that is given for its section."""

OBJECTS = {
    "trainer.callbacks": "a callback",
    "trainer.plugins": "a plugin",
    "trainer.logger": "true, false, a logger",
}
"""Keys that take objects of Lightning, and what each takes."""

RANGE = re.compile(r"Not of type .*?: Expected (.+?)(?:\. |\.?$)", re.MULTILINE)
"""Error: a number outside of its range, or no number."""


def suggest(word: str, names: Sequence[str]) -> str:
    """Return "did you mean" with the nearest name; empty where none is near."""
    lower = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), lower, n=1)
    return f"; did you mean {lower[near[0]]}?" if near else ""


def nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the nearest key: first of the same section, then of any."""
    section, leaf = key.split(".")[0], key.rpartition(".")[2]
    own = [name for name in known if name.split(".")[0] == section]
    by_leaf = {name.rpartition(".")[2]: name for name in reversed(known)}
    same = [name for name in own if name.rpartition(".")[2] == leaf]
    found = get_close_matches(key, same, cutoff=0.0) or get_close_matches(key, own, cutoff=0.8)
    if not found and ELSEWHERE.get(leaf) in known:
        return ELSEWHERE[leaf]
    found = found or [by_leaf[name] for name in get_close_matches(leaf, by_leaf)]
    return _in_stage(key, found[0]) if found else None


def _in_stage(key: str, near: str) -> str:
    """Return a key of a section as an override of the stage that another key begins with."""
    stage = ".".join(key.split(".")[:2])
    overridden = key.count(".") > 1 and near.startswith(("trainer.", "model."))
    return f"{stage}.{near}" if overridden and key.startswith("stages.") else near


def explain(
    message: str, known: Sequence[str] = (), kinds: Mapping[str, type] | None = None
) -> str:
    """Convert an error message of jsonargparse to one line.

    Args:
        message: message of the error.
        known: every valid key.
        kinds: base classes of the keys that take a class.
    """
    message = message.strip()
    if found := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
        return _stray(found[1].split(), known)
    if found := re.match(r"Group '(.*?)' does not accept option '(.*?)'", message):
        return _unknown(f"{found[1]}.{found[2]}", "key", known)
    if found := re.match(r"Option '(.*?)' is not accepted", message):
        return _unknown(found[1], "key", known)
    if found := re.match(r"the following arguments are required: (.*)", message):
        return ", ".join(f"--{name}" for name in found[1].split(", ")) + ": required, but not given"
    if found := re.match(r"argument (\S+): expected (\d+) arguments", message):
        return f"{found[1]} needs {found[2]} values after it"
    if found := re.match(r"argument (\S+): expected", message):
        return f"{found[1]} needs a value; none follows it"
    if found := re.match(r'Parser key "(.*?)"', message):
        return _wrong_value(found[1], message, (kinds or {}).get(found[1]))
    return " ".join(message.split())[:300]


def origin(message: str, words: Sequence[str]) -> str:
    """Return the config file whose key a message is about, as `FILE: `; empty for an option."""
    key = key_in(message)
    if not key:
        return ""
    if any(word.startswith(f"--{key}") for word in words):
        return ""
    files = [file for word, file in pairwise(words) if word == "--config"]
    holding = [file for file in files if _holds(read_config(file), key)]
    return f"{holding[-1]}: " if holding else ""


def key_in(message: str) -> str:
    """Return the key that an error message of the parser is about; empty where there is none."""
    patterns = r"Group '(.*?)' .* option '(.*?)'|Parser key \"(.*?)\"|Option '(.*?)' is not"
    found = re.match(rf"\s*(?:{patterns})", message)
    return ".".join(part for part in found.groups() if part) if found else ""


def read_config(file: str | Path) -> dict[str, Any]:
    """Read the keys of a config file.

    Raises:
        UserError: it is not YAML, or holds something other than keys.
    """
    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"--config {file}, line {line}: not YAML ({error.problem})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file}: not a YAML text in UTF-8") from error
    if not isinstance(found, dict):
        what = "is empty" if found is None else f"holds a {type(found).__name__}"
        raise UserError(f"--config {file} {what}; expected keys, such as `data:` and `model:`")
    return found


def _holds(config: object, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            return False
        config = config[part]
    return True


def _stray(words: Sequence[str], known: Sequence[str]) -> str:
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    if options:
        return "; ".join(_unknown(option, "option", known) for option in options)
    first = words[0]
    if first.endswith((".yaml", ".yml")):
        return f"{first} belongs to no option; did you mean --config {first}?"
    if "run" in known:
        return f"{first} belongs to no option; did you mean --run {first}?"
    return f"{first} belongs to no option: options begin with --, and a list is written '[a, b]'"


def _unknown(word: str, what: str, known: Sequence[str]) -> str:
    dashes = "--" if word.startswith("--") else ""
    near = nearest(word.removeprefix("--"), known)
    cure = (
        f"did you mean {dashes}{near}?"
        if near
        else "`--help all` after the command lists every one"
    )
    return f"{word} is not a known {what}; {cure}"


def _wrong_value(key: str, message: str, base: type | None) -> str:
    given = (re.findall(r"Given value: (.*)", message) or [""])[-1][:80]
    if key in OBJECTS and "class_path" not in given and not re.match(r"\[?'?[A-Za-z]", given):
        what = f"{OBJECTS[key]} or a list of them, each a class: class_path with init_args"
        return f"{key}: {given!r} is invalid; give {what}"
    found = NESTED.search(message)
    part = locate(found[3]) if found else None
    if found and isinstance(part, type) and inspect.isabstract(part):
        return _wrong_value(f"{key}.init_args.{found[2]}", found[1], part)
    if found := NO_ARGUMENT.search(message):
        return _wrong_argument(key, found[1], found[2] or found[3], message)
    if found := re.search(r"class_path '(\S+)':\s*the following .* required: (.*)", message):
        needed = found[2].split(", ")
        cure = " ".join(f"--{key}.init_args.{argument} VALUE" for argument in needed)
        return f"{key} {_last(found[1])} needs {' and '.join(needed)}: {cure}"
    if found := NO_CLASS.search(message):
        return _wrong_class(key, found[1] or found[2] or found[3] or given_in(message), base)
    if found := IN_SECTION.search(message):
        return _wrong_type(found[1], found[2], None)
    if "Unable to load config" in message:
        return f"{key} takes a file of its keys, or single ones, as --{key}.KEY VALUE"
    inner = message[message.rindex('Parser key "') :]
    name = inner.split('"')[1]
    if name in (key, _last(key)):
        return _wrong_type(key, inner, base)
    return _wrong_type(f"{key}.init_args.{name}" if base else f"{key}.{name}", inner, None)


def _wrong_argument(key: str, class_path: str, option: str, message: str) -> str:
    found, name = locate(class_path), option.partition(".")[0]
    moved: Mapping[str, str] = getattr(found, "moved", {})
    if name in moved:  # with all other arguments of an earlier version
        old = [known for known in moved if known == name or f"'{known}': " in message]
        return "; ".join(f"{key}.init_args.{k} is now {key}.init_args.{moved[k]}" for k in old)
    takes = list(inspect.signature(found).parameters) if callable(found) else []
    near = suggest(name, [*takes, "init_args"])
    return f"{key} {_last(class_path)} has no {option!r}; it takes {', '.join(takes)}{near}"


def _wrong_class(key: str, name: str, base: type | None) -> str:
    if base is None:
        return f"{key} {name!r} is not a class; give its path, as package.module.Class"
    known = known_classes(base)
    near = suggest(_last(name), known)
    return f"{key} {name!r} is not a known {base.__name__}; known: {', '.join(known)}{near}"


def _wrong_type(key: str, message: str, base: type | None) -> str:
    """Return a message with the given value of a key and the allowed ones."""
    choices: list[str] = []
    end = r"\n\s*Given value" if "Union subtypes" in message else r"(?:Got|Given) value"
    expected = re.split(end, message)[0]
    allowed = ranges_in(expected)
    for kind in re.findall(r"Expected an? (<class '.*?'>|typing.Literal\[.*?\])", expected):
        if kind == "<class 'bool'>":
            choices += ["true", "false"]
        elif kind.startswith("<"):
            allowed.append(TYPES.get(_last(kind[8:-2]), f"a {_last(kind[8:-2])}"))
        else:
            choices += [str(choice) for choice in ast.literal_eval(kind[len("typing.Literal") :])]
    *others, last = [*choices, *dict.fromkeys(allowed)] or ["another value"]
    wanted = f"{', '.join(others)} or {last}" if others else last
    classes = known_classes(base) if base else []
    known = f"; known: {', '.join(classes)}" if base else ""
    given = given_in(message)
    near = "" if given == "null" else fraction_of(given) or suggest(given, choices)
    if given in classes:  # for a list of classes
        near = f"; did you mean --{key}+ {given}?"
    return f"{key}: {given!r} is invalid; give {wanted}{known}{near}"


def ranges_in(message: str) -> list[str]:
    """Return the ranges that an error message names."""
    return [name.removesuffix(".") for name in RANGE.findall(message)]


def fraction_of(given: str) -> str:
    """Return a hint where a share is given in percent."""
    percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", given)
    return f", such as {float(percent[1]) / 100:g}" if percent else ""


def given_in(message: str) -> str:
    """Return the value that jsonargparse rejects, shortened."""
    found = re.search(r"(?:Got|Given) value: (.*)", message)
    return "null" if found and found[1] == "None" else found[1][:80] if found else ""


def known_classes(base: type) -> list[str]:
    """Return the names of the imported concrete subclasses of a class."""
    names = (c.__name__ for c in _subclasses(base) if not inspect.isabstract(c))
    return sorted(name for name in names if not name.startswith("_"))


def _subclasses(base: type) -> set[type]:
    children: list[type] = base.__subclasses__()
    return {*children, *(found for child in children for found in _subclasses(child))}


def _last(path: str) -> str:
    return path.rpartition(".")[2]
