"""The embedded default: a small multi-task pool, a tiny LLaVA, a tiny DINOv2, a tiny SigLIP."""

from __future__ import annotations

import hashlib
from pathlib import Path

from filelock import FileLock

from presel_lightning.errors import UserError
from presel_lightning.run.files import hidden, make_folder, scratch, user_cache

_HERE = Path(__file__).parent

CHECKPOINT: Path = _HERE / "weights" / "llava"
"""The tiny LLaVA before instruction tuning."""
ENCODER: Path = _HERE / "weights" / "dinov2"
"""The tiny DINOv2 whose [CLS] describes an image."""
MATCHER: Path = _HERE / "weights" / "siglip"
"""The tiny SigLIP that compares an image with a text."""


NAME = "quickstart"
"""Name of the embedded pool in a configuration; `quickstart:equal` and others are variants."""


def is_pool(name: object) -> bool:
    """Return whether a value of `data.annotations` names an embedded pool."""
    return isinstance(name, str) and name.partition(":")[0] == NAME


def pool(folder: Path | None = None, name: str = NAME) -> Path:
    """Return the folder of an embedded pool (`train.json`, `test.json`, `images/`), made once.

    It is in the user's cache (`$PRESEL_LIGHTNING_CACHE`, else `$XDG_CACHE_HOME/presel_lightning`,
    else `~/.cache/presel_lightning`) under a name with the hash of the generator's code, or in
    `folder` where the cache cannot be written. A command that leaves no files
    (`run.files.keeping_nothing`) reuses it, or else makes a temporary one.

    Raises:
        UserError: neither place can be written, or no pool has this name.
    """
    from presel_lightning.quickstart.kinds import kind_of

    kind = name.partition(":")[2]
    kind_of(kind)
    place_name = "-".join(filter(None, [NAME, kind, _generator_hash()]))
    places = [user_cache()] if folder is None else [user_cache(), folder]
    if (temporary := scratch()) is not None:
        made = [place for place in places if (place / place_name / "train.json").exists()]
        places = made or [temporary]
    for place in places:
        try:
            return _made(place / place_name, kind)
        except OSError as error:
            refusal = error
    raise UserError(
        f"the quickstart pool cannot be written ({refusal}); "
        "set PRESEL_LIGHTNING_CACHE to a folder that can"
    ) from refusal


def _made(target: Path, kind: str) -> Path:
    from presel_lightning.quickstart.kinds import kind_of
    from presel_lightning.quickstart.world import generate

    what = kind_of(kind)

    if (target / "train.json").exists():
        return target
    make_folder(target.parent)
    with FileLock(hidden(target, "lock")):  # of several processes the first makes it
        if not (target / "train.json").exists():
            generate(target, sizes=what.sizes, corrupt=what.corrupt, scenes=what.scenes)
    return target


def _generator_hash() -> str:
    """Hash the generator's source, so that a changed generator never reuses an old pool."""
    digest = hashlib.sha256()
    for file in ("kinds.py", "scenes.py", "world.py"):
        digest.update((_HERE / file).read_bytes())
    return digest.hexdigest()[:12]
