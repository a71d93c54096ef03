"""A copy of a pool in which some answers of one task are those of other samples."""

import json
import shutil
from pathlib import Path

import numpy as np


def shuffle_answers(pool: Path, folder: Path, task: str, share: float, seed: int) -> set[str]:
    """Copy a pool, and rotate the answers of a share of a task among its samples.

    The field `shuffled` of each record says whether its answer is another text than before.

    Args:
        pool: folder of `train.json` and `images`.
        folder: new folder.
        task: whose answers are shuffled.
        share: fraction of the task's samples.
        seed: of the draw.

    Returns:
        Ids of the samples whose answer is now another text than before.
    """
    shutil.copytree(pool / "images", folder / "images", dirs_exist_ok=True)
    records = json.loads((pool / "train.json").read_text())
    own = [record for record in records if record["task"] == task]
    rng = np.random.default_rng(seed)
    drawn = [own[place] for place in rng.permutation(len(own))[: round(share * len(own))]]
    answers = [[t["value"] for t in r["conversations"] if t["from"] == "gpt"] for r in drawn]
    changed = set()
    for record, given, before in zip(drawn, answers[1:] + answers[:1], answers, strict=True):
        if given[0] == before[0]:
            continue
        turns = [turn for turn in record["conversations"] if turn["from"] == "gpt"]
        for turn, text in zip(turns, given, strict=False):
            turn["value"] = text
        changed.add(str(record["id"]))
    for record in records:
        record["shuffled"] = str(record["id"]) in changed
    (folder / "train.json").write_text(json.dumps(records))
    return changed
