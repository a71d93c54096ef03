"""What the samples of a pool are called, without the pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class PoolNames:
    uid: np.ndarray
    id: np.ndarray
    image: np.ndarray
    task: np.ndarray

    def reveal(self, uid: str) -> list[dict[str, str]] | None:
        raise NotImplementedError(uid)  # a pool that hides nothing


def conversation(answer: str, question: str = "<image>\nWhat?") -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
