"""`score`: an image-text model's judgement, and CLIP similarities, of the pairs of a folder of shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import fsspec
import pyarrow as pa
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from presel_lightning.check.origin import origin_of, read_config
from presel_lightning.console import console, quiet
from presel_lightning.errors import UserError
from presel_lightning.functional.judge_score import parse_score
from presel_lightning.loading.encoders import encoder_of
from presel_lightning.loading.judge_prompts import prompts_of, read_prompts
from presel_lightning.loading.judging import Judging
from presel_lightning.loading.matching import Matching
from presel_lightning.loading.shard_blocks import Batch, Seen, Shard, ShardPass
from presel_lightning.loading.tokens import UNCUT
from presel_lightning.models.hub import reach_hub
from presel_lightning.models.image_text import load_readers
from presel_lightning.models.paired import why_not_shared
from presel_lightning.run.files import make_folder, read_json
from presel_lightning.run.fingerprint import fingerprint
from presel_lightning.run.ranks import rank_zero
from presel_lightning.run.units import state_of
from presel_lightning.shards.rows import shards_in
from presel_lightning.tasks import FineTune
from presel_lightning.tasks.judge import Judge
from presel_lightning.tasks.shard_writer import Arrays, ShardWriter, is_done
from presel_lightning.tasks.similarity import Similarity

Columns = Callable[[Arrays], dict[str, pa.Array]]


def score_shards(
    input: str,
    output: str,
    judge: str | None = None,
    clip: str | None = None,
    metrics: Sequence[str] | None = None,
    prompts: str | None = None,
    template: str = "auto",
    caption_tokens: int = 1024,
    max_new_tokens: int = 4,
    clip_column: str = "clip_l14_similarity_score",
    block_size: int = 32,
    num_workers: int = 4,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    **trainer: Any,  # noqa: ANN401 - options of Lightning's Trainer
) -> None:
    """Score every sample of a folder of shards; see `cli.web.score`.

    Raises:
        UserError: there are no shards, or neither judge nor CLIP is named.
    """
    shards = shards_in(Path(input))
    if not shards:
        raise UserError(f"--input {input}: no .tar there or below")
    if judge is None and clip is None:
        raise UserError("score needs --judge CHECKPOINT or --clip CHECKPOINT, or both")
    quiet()
    named = {"--judge": judge, "--clip": clip}
    reach_hub(None, [], {key: name for key, name in named.items() if name is not None})
    how = block_size, num_workers, trainer
    if judge is not None:
        tuned = FineTune(judge, tune="none", dtype=dtype)
        own = read_prompts(Path(prompts)) if prompts else {}
        asked = prompts_of(metrics, own)
        judging = judging_of(tuned, template, asked, caption_tokens)
        stops = tuple(judging.encoder.stop_ids())
        key = [tuned.fingerprint(), template, asked, caption_tokens, max_new_tokens]
        module = Judge(tuned, stops, max_new_tokens)
        _score(Path(input), shards, Path(output) / "judge", module, judging, judged, key, *how)
    if clip is not None:
        similarity = Similarity(clip, dtype)
        _score(
            Path(input),
            shards,
            Path(output) / "clip",
            similarity,
            Matching(*load_readers(clip)),
            lambda found: {clip_column: pa.array(found["similarity"].astype("float32"))},
            [similarity.fingerprint(), clip_column],
            *how,
            kept=["similarity"],
        )


def judging_of(
    tuned: FineTune, template: str, prompts: dict[str, str], caption_tokens: int
) -> Judging:
    """What writes the prompts of a judge; whether it shares prefixes is asked of its configuration."""
    try:
        config = read_config(origin_of(tuned))
        encoder = encoder_of(template, tuned.processor, UNCUT)
    except UserError as error:
        raise UserError(str(error).replace("model.checkpoint", "--judge")) from error
    reason = why_not_shared(SimpleNamespace(config=config))
    return Judging(encoder, tuned.processor, prompts, caption_tokens, reason is None)


def judged(replies: Arrays) -> dict[str, pa.Array]:
    """Scores, whether they could be read, and the replies themselves, by metric."""
    columns: dict[str, pa.Array] = {}
    for metric, texts in replies.items():
        scores = [parse_score(text) for text in texts.tolist()]
        columns[f"{metric}_score"] = pa.array(scores, pa.int16())
        columns[f"{metric}_parse_ok"] = pa.array([score is not None for score in scores])
        columns[f"{metric}_reply"] = pa.array(texts.tolist(), pa.string())
    return columns


def _score(
    folder: Path,
    paths: Sequence[Path],
    out: Path,
    module: LightningModule,
    encode: Callable[[list[Seen]], Batch],
    columns: Columns,
    key: object,
    block_size: int,
    num_workers: int,
    options: dict[str, Any],
    kept: Sequence[str] | None = None,
) -> None:
    """Score the shards that have no table of this key."""
    files = fsspec.filesystem("file")
    keys, tables = {}, {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("")
        own = fingerprint({"score": 1, "by": key, "shard": state_of(files, str(path))})
        shard = Shard(path, out / ".work" / f"{own}-{block_size}")
        keys[shard], tables[shard] = own, out / name
    left = [shard for shard in keys if not is_done(tables[shard], keys[shard])]
    for shard in left:
        make_folder(tables[shard].parent)
    if left:
        data = ShardPass(left, block_size, encode, num_workers)
        writer = ShardWriter(data, tables, keys, columns, kept)
        trainer_of(options, writer).predict(module, datamodule=data, return_predictions=False)
    if rank_zero():
        _report(out, [tables[shard] for shard in keys], len(keys) - len(left))


def trainer_of(options: dict[str, Any], writer: ShardWriter) -> Trainer:
    """The Trainer of a pass.

    Raises:
        UserError: Lightning refuses an option.
    """
    try:
        return Trainer(
            callbacks=[writer],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **options,
        )
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"score: {error}") from error


def _report(out: Path, tables: Sequence[Path], reused: int) -> None:
    """Print what was scored, and what was left out."""
    found = [read_json(p) for t in tables if (p := t.with_suffix(".json")).is_file()]
    scored, samples = (sum(each[name] for each in found) for name in ("scored", "samples"))
    again = f", {reused} of them before" if reused else ""
    console.print(
        f"{scored} of {samples} samples scored in {len(found)} shards{again}: {out}", soft_wrap=True
    )
    faults = Counter(kind for each in found for _, kind, _ in each["faults"])
    for kind, n in faults.items():
        console.print(f"  {n} x {kind.replace('_', ' ')}: `faults` of {out}/*.json", soft_wrap=True)
