"""Names of samples that outlive the order of rows and the writing of instructions."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with sorted keys and no spaces."""
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def uid_of(task: str, image: str | list[str], sample_id: str, occurrence: int) -> str:
    """32 hex digits of blake2b-128 over task, image path, id and occurrence.

    Args:
        task: of the sample.
        image: path, relative to the image root; of several images the list of theirs.
        sample_id: the record's own id, which may repeat.
        occurrence: number among the records equal in the first three, in the order of their
            canonical JSON.
    """
    key = canonical([task, image, sample_id, occurrence])
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
