"""First pass of `reshard`: which samples of a shard a subset asks for, and where their members lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from presel_lightning.filters.faults import Fault, Faults, Listed
from presel_lightning.filters.uid_files import sorted_uids
from presel_lightning.filters.uids import UID, multiplicity, order_of
from presel_lightning.run.units import Stage
from presel_lightning.shards.samples import ShardSample, samples, shard_state, uid_in
from presel_lightning.shards.tar_members import BLOCK, BrokenTar, mapped

SAMPLE = np.dtype([("uid", UID), ("copies", "<i8"), ("first", "<i8"), ("bytes", "<i8")])
"""A sample that is asked for: how often, its first row among the members, bytes in a tar."""
MEMBER = np.dtype([("offset", "<i8"), ("size", "<i8"), ("ending", "<i8")])
"""A member: where its content lies, and which of the shard's endings it has."""


@dataclass(frozen=True)
class IndexStage(Stage):
    """Samples of each shard that are in a subset, with their members in the order of a tar.

    Args:
        folder: of the manifests.
        key: what else defines the result.
        input: folder of the shards.
        shards: their paths in it.
        subset: subset file.
        faults: `skip` lists shards and samples that cannot be read, `stop` stops there.
    """

    input: Path
    shards: tuple[str, ...]
    subset: Path
    faults: Faults

    def path(self, number: int) -> Path:
        """Of a shard."""
        return self.input / self.shards[number]

    def defined_by(self, number: int) -> object:
        """The shard."""
        return [self.shards[number], shard_state(self.path(number))]

    def __call__(self, number: int) -> None:
        """Index a shard up to where it breaks off."""
        listed, path = Listed(self.faults), str(self.path(number))
        found: list[ShardSample] = []
        uids: list[tuple[int, int]] = []
        try:
            with mapped(self.path(number)) as tar:
                whole, broken = samples(tar)
                for sample in whole:
                    try:
                        uids.append(uid_in(tar, sample, path))
                    except Fault as fault:
                        listed.add(fault)
                    else:
                        found.append(sample)
            if broken is not None:
                raise BrokenTar(f"{broken}, behind {len(whole)} samples")
        except (BrokenTar, OSError) as error:
            listed.add(Fault(path, "corrupt_tar", str(error)))
        counts = self._save(number, found, np.array(uids, UID))
        self.finish(number, {**counts, "faults": listed.found})

    def _save(self, number: int, found: list[ShardSample], uids: np.ndarray) -> dict[str, object]:
        copies = multiplicity(sorted_uids(str(self.subset), "subset"), uids)
        wanted = np.flatnonzero(copies)
        endings: dict[str, int] = {}
        members: list[tuple[int, int, int]] = []
        first, length = [], []
        for place in wanted.tolist():
            own = [
                (member.offset, member.size, endings.setdefault(ending, len(endings)))
                for ending, member in sorted(found[place].members.items())
            ]
            first.append(len(members))
            length.append(sum(BLOCK + -(-size // BLOCK) * BLOCK for _, size, _ in own))
            members += own
        rows = np.zeros(len(wanted), SAMPLE)
        rows["uid"], rows["copies"] = uids[wanted], copies[wanted]
        rows["first"], rows["bytes"] = first, length
        order = order_of(rows["uid"])
        self.save(number, "samples", rows)
        self.save(number, "members", np.array(members, MEMBER))
        self.save(number, "sorted", rows["uid"][order])
        self.save(number, "order", order)
        return {"samples": len(found), "kept": len(rows), "endings": list(endings)}
