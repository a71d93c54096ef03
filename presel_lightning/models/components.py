"""A LLaVA by the parts it was published in: which they are, and what names their content."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from transformers.utils.hub import cached_file

from presel_lightning.errors import UserError
from presel_lightning.models.aspect import Aspect
from presel_lightning.models.content import describe_model
from presel_lightning.run.files import read_json, user_cache
from presel_lightning.run.fingerprint import digest_weights, fingerprint

VERSION = 3
"""Raised when the same parts make another model."""

FILE = "components.json"
"""Beside the weights of an assembled model, and of what was tuned from it."""

PROJECTOR_FILES = ("mm_projector.bin", "mm_projector.safetensors")


@dataclass(frozen=True)
class Components:
    """The three published parts of a LLaVA before its instruction tuning."""

    language_model: str
    """Folder or hub id of a causal language model with its tokenizer (vicuna-7b-v1.5)."""
    vision_tower: str
    """Folder or hub id of a CLIP (clip-vit-large-patch14-336), SigLIP or DINOv2 with its image
    processor."""
    projector: str
    """`mm_projector.bin` or `.safetensors`, or a folder or hub id that holds one."""
    aspect: Aspect = "pad"
    """`pad` images to a square with the mean colour, as LLaVA-1.5 does, or cut a `square` out of
    their middle."""


def cache_folder() -> Path:
    """Where assembled models are kept."""
    return user_cache() / "llava"


def describe_components(components: Components) -> str:
    """Name parts by their content (hub ids by their commits), for fingerprints; nothing is loaded.

    Raises:
        UserError: a part is missing.
    """
    return fingerprint(
        [
            VERSION,
            _describe_model("language_model", components.language_model),
            _describe_model("vision_tower", components.vision_tower),
            digest_weights(projector_file(components.projector)),
            *([] if components.aspect == "pad" else [components.aspect]),
        ]
    )


def _describe_model(key: str, name: str) -> str:
    place = Path(name).expanduser()
    if place.is_dir() or looks_like_hub_id(name):
        return describe_model(str(place))
    raise UserError(
        f"model.components.{key}: no such folder {name!r}, and it is no hub id either; give a folder "
        "in transformers format, or owner/name"
    )


def looks_like_hub_id(name: str) -> bool:
    """Whether a name may be `owner/name` rather than a path."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def projector_file(name: str) -> Path:
    """The file of a projector.

    Raises:
        UserError: there is none.
    """
    place = Path(name).expanduser()
    if place.is_file():
        return place
    if place.is_dir():
        for file in PROJECTOR_FILES:
            if (place / file).is_file():
                return place / file
    elif looks_like_hub_id(name) and place.suffix not in (".bin", ".safetensors"):
        try:
            return Path(str(cached_file(name, PROJECTOR_FILES[0])))
        except (OSError, ValueError) as error:
            raise UserError(
                f"model.components.projector: {_line(error)}; give the {PROJECTOR_FILES[0]} itself, "
                "or a folder that holds it"
            ) from error
    raise UserError(
        f"model.components.projector: no such file {name!r}; give the {PROJECTOR_FILES[0]} that "
        "LLaVA was published with, or a folder that holds it"
    )


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def components_of(folder: str | Path) -> Components | None:
    """What an assembled or tuned model was made of, where that is known."""
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    known = read_json(path)
    fields = Components.__dataclass_fields__
    return Components(**{name: known[name] for name in fields if name in known})


def absolute(components: Components) -> dict[str, str]:
    """The parts as they are written down: local ones by their absolute path."""
    places = asdict(components)
    aspect = places.pop("aspect")
    return {
        **{
            key: str(path.resolve()) if (path := Path(name).expanduser()).exists() else name
            for key, name in places.items()
        },
        "aspect": aspect,
    }
