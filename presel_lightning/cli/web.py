"""Commands for web-scale pools; nothing here imports torch before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from presel_lightning.cli.rules import build, rules_from
from presel_lightning.console import console
from presel_lightning.errors import UserError
from presel_lightning.run.executors import Executor
from presel_lightning.run.ranges import Count, NaturalNumber, Processes, Seed, Tokens, Workers


def filter_pool(
    output: str,
    metadata: str | None = None,
    rules: list[str | dict[str, Any]] | None = None,
    scores: list[str] | None = None,
    uids: str | None = None,
    sampling: dict[str, Any] | None = None,
    mixture: dict[str, Any] | None = None,
    lid_model: str | None = None,
    wordnet: str | None = None,
    faults: Literal["stop", "skip"] = "stop",
    executor: Executor = "local",
    workers: Workers = 1,
) -> None:
    """Write the uids of the rows of metadata that pass all rules, in DataComp's format.

    Args:
        output: subset file, `.npy`; counts and faults are written beside it.
        metadata: folder of parquet files, or of shards with annotations, `SOURCE/000000.json`; or a
            URL that fsspec knows.
        rules: names, names with options, or `any`, `all`, `not` with rules; docs/web_scale.md.
        scores: more files of scores, `.parquet` or `.npz` with `uid`: files, folders or URLs.
        uids: subset files that the uid must be in, `A.npy | B.npy`; without `metadata`, the union
            or intersection itself, every uid as often as it is there.
        sampling: draws with repetition among what passes: method `soft_cap` or `hard_cap`, score,
            size.
        mixture: exact shares of sources among what passes: shares, size, by, groups.
        lid_model: file of a fastText model for the language of captions.
        wordnet: folder of WordNet 3.0, for `text_based`.
        faults: what is done about files that cannot be read, missing columns and malformed uids:
            `stop`, or `skip` and list them.
        executor: who does the files: processes of this machine, Ray, or a Slurm array.
        workers: files at a time.

    Raises:
        UserError: neither metadata nor uids are given, or rules without metadata.
    """
    from presel_lightning.filters.command import FilterRun, combine_uids
    from presel_lightning.filters.mixture import Mixture
    from presel_lightning.filters.sampling import Sampling

    if not output.endswith(".npy"):
        raise UserError(f"--output {output}: give a name that ends with .npy")
    place = _local(output, "--output")
    if metadata is None:
        if uids is None or rules or sampling or mixture or scores:
            raise UserError("filter needs --metadata DIR with --rules, or --uids 'A.npy | B.npy'")
        total = combine_uids(uids, place)
        console.print(f"{total} uids: {place}", soft_wrap=True)
        return
    if not rules:
        raise UserError(
            "filter needs --rules, such as '[basic_filter]'; `no_filter` keeps all rows"
        )
    if sampling and mixture:
        raise UserError("filter: give either --sampling or --mixture")
    found = FilterRun(
        metadata=metadata,
        rules=rules_from(rules, {"lid_model": lid_model, "wordnet": wordnet}),
        output=place,
        scores=tuple(scores or ()),
        uids=uids,
        sampling=None if sampling is None else build(Sampling, sampling, "sampling"),
        mixture=None if mixture is None else build(Mixture, mixture, "mixture"),
        faults=faults,
        executor=executor,
        workers=workers,
    ).run()
    _tell(found, place)


def _local(path: str, option: str) -> Path:
    """The path; a URL would become a folder of the present one."""
    if "://" in path:
        raise UserError(f"{option} {path}: give a local path, such as that of a mount")
    return Path(path)


def _tell(found: dict[str, Any], place: Path) -> None:
    """Print what was counted."""
    console.print(
        f"{found['written']} uids of {found['rows']} rows in {found['files']} files: {place}",
        soft_wrap=True,
    )
    for rule in found["rules"]:
        console.print(f"  {rule['rule']}: {rule['passed']} of {rule['seen']} pass", soft_wrap=True)
    for name, number in (found["mixture"] or {}).items():
        console.print(f"  {number} of {name}", soft_wrap=True)
    for name, number in found["nulls"].items():
        console.print(f"  {number} rows have no {name}", soft_wrap=True)
    for problem, number in found["faults"].items():
        listed = place.with_suffix(".problems.csv")
        console.print(f"  {number} x {problem.replace('_', ' ')}: {listed}", soft_wrap=True)


def reshard(
    input: str,
    subset: str,
    output: str,
    shard_size: Count = 10_000,
    shuffle: Seed | None = None,
    pack_length: Count | None = None,
    tokenizer: str | None = None,
    image_tokens: NaturalNumber = 0,
    faults: Literal["stop", "skip"] = "skip",
    executor: Executor = "local",
    workers: Workers = 1,
) -> None:
    """Write webdataset shards of the samples whose uid a subset file lists.

    A uid that is m times in the subset gives m samples, `UID-0` to `UID-(m-1)`; of a uid that is in
    several samples of the pool the first is taken. Members are copied byte for byte.

    Args:
        input: folder of the shards.
        subset: sorted subset file, as `filter` writes it.
        output: new folder.
        shard_size: samples of a shard.
        shuffle: seed of a shuffle of all samples; by default they stay in the order of the pool.
        pack_length: tokens of a sequence that samples are packed to: those of a sequence lie one
            behind another in one shard, `shard_size` counts sequences, and `packs.parquet` names
            the sequence of each sample.
        tokenizer: folder or hub id of the model whose tokens of captions are counted.
        image_tokens: tokens of a sample beside its caption: its image, question and template.
        faults: what is done about damaged shards and samples without uid: `skip` lists them.
        executor: who does the shards: processes of this machine, Ray, or a Slurm array.
        workers: shards at a time.

    Raises:
        UserError: only one of `pack_length` and `tokenizer` is given.
    """
    from presel_lightning.shards.packs import Packing
    from presel_lightning.shards.reshard import Reshard

    if (pack_length is None) != (tokenizer is None):
        raise UserError("reshard: give --pack_length and --tokenizer together, or neither")
    packing = None
    if pack_length is not None and tokenizer is not None:
        from presel_lightning.models.checkpoint import resolve_checkpoint  # torch

        try:
            packing = Packing(pack_length, resolve_checkpoint(tokenizer), image_tokens)
        except UserError as error:
            raise UserError(str(error).replace("model.checkpoint", "--tokenizer")) from error
    found = Reshard(
        input=_local(input, "--input"),
        subset=_local(subset, "--subset"),
        output=_local(output, "--output"),
        shard_size=shard_size,
        shuffle=shuffle,
        packing=packing,
        faults=faults,
        executor=executor,
        workers=workers,
    ).run()
    console.print(
        f"{found['output_count']} samples in {found['output_shard_count']} shards, of "
        f"{found['processed_count']} in {found['input_shard_count']}: {output}",
        soft_wrap=True,
    )
    for problem, number in found["faults"].items():
        listed = Path(output) / "problems.csv"
        console.print(f"  {number} x {problem.replace('_', ' ')}: {listed}", soft_wrap=True)


def score(
    input: str,
    output: str,
    judge: str | None = None,
    clip: str | None = None,
    features: str | None = None,
    metrics: list[str] | None = None,
    prompts: str | None = None,
    template: str = "auto",
    caption_tokens: Count = 1024,
    max_new_tokens: Tokens = 4,
    reading: Literal["greedy", "expectation"] = "greedy",
    clip_column: str = "clip_l14_similarity_score",
    block_size: Count = 32,
    num_workers: Processes = 4,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    executor: Executor = "local",
    workers: Workers = 1,
    accelerator: str = "auto",
    devices: str | int | list[int] = "auto",
    num_nodes: Count = 1,
    strategy: str = "auto",
    precision: str | int | None = None,
) -> None:
    """Score pairs of webdataset shards: MLM-Filter's judge, CLIP similarity, features of the images.

    `OUTPUT/judge`, `OUTPUT/clip` and `OUTPUT/features` get a table for each shard, with `uid`; the
    first two are for `filter --scores`, the last for `select --data.features`. A shard that has one
    is not scored again; a killed command goes on.

    Args:
        input: folder of the shards, at any depth.
        output: folder of the tables.
        judge: image-text model that rates the pairs: folder or hub id.
        clip: CLIP or SigLIP that compares images with captions: folder or hub id.
        features: vision encoder of the images, as `stages.features.model.checkpoint` takes it.
        metrics: image_text_matching, object_detail_fulfillment, caption_text_quality,
            semantic_understanding, or names of `prompts`; all by default.
        prompts: YAML with prompts of metrics, `{metric: text}`, instead of ours or beside them.
        template: conversation template of the judge; `auto` finds it.
        caption_tokens: longer captions are cut, so that the question behind them stays whole.
        max_new_tokens: tokens of a reply; 100 takes three where every digit is a token.
        reading: the judge's `greedy` reply, or the `expectation` over the numbers 0 to 100.
        clip_column: name of the column of CLIP similarities.
        block_size: pairs of a forward pass, and what a killed command loses.
        num_workers: processes that decode images, for each device.
        dtype: of the weights.
        executor: who does the shards: this machine, Ray, or a Slurm array.
        workers: shards at a time, each with a model and a device of its own.
        accelerator: as Lightning's Trainer takes it, and so the next ones.
        devices: number or list of devices, for one worker of this machine.
        num_nodes: number of machines, as `devices`.
        strategy: of several devices.
        precision: of the computation.
    """
    from presel_lightning.cli.score import ScoreRun
    from presel_lightning.cli.scorings import Ratings, Scoring, Similarities, Vectors
    from presel_lightning.loading.judge_prompts import prompts_of, read_prompts

    places = _local(input, "--input"), _local(output, "--output")
    scorings: list[Scoring] = []
    if judge is not None:
        asked = prompts_of(metrics, read_prompts(Path(prompts)) if prompts else {})
        how = tuple(asked.items()), caption_tokens, max_new_tokens, reading
        scorings.append(Ratings(judge, dtype, template, *how))
    if clip is not None:
        scorings.append(Similarities(clip, dtype, clip_column))
    if features is not None:
        scorings.append(Vectors(features, dtype))
    trainer = {
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
        "precision": precision,
    }
    ScoreRun(*places, block_size, num_workers, executor, workers, trainer).run(scorings)


def cluster(
    features: str,
    output: str,
    tasks: str | None = None,
    rows_per_cluster: Count = 100,
    part: Count = 100_000,
    seed_everything: Seed = 0,
    executor: Executor = "local",
    workers: Workers = 1,
) -> None:
    """Number the clusters of a table of features, task by task, by k-means.

    A task of more than `part` rows is divided into parts first, and each of them is clustered by
    itself.

    Args:
        features: `.npy` (N, D), or the folder of `score --features`.
        output: `.npy` of the cluster of each row; with the features of shards, `.parquet` beside it
            has their uids, for `filter --scores`.
        tasks: task of each row: text, `.csv` or `.npy`.
        rows_per_cluster: rows of a cluster, on average.
        part: rows from which on a task is divided.
        seed_everything: seed of the clustering.
        executor: who does the tasks: processes of this machine, Ray, or a Slurm array.
        workers: tasks at a time.
    """
    from presel_lightning.cli.features import cluster_rows

    place = _local(output, "--output")
    cluster_rows(features, place, tasks, rows_per_cluster, part, seed_everything, executor, workers)


COMMANDS: dict[str, Callable[..., None]] = {
    "filter": filter_pool,
    "reshard": reshard,
    "score": score,
    "cluster": cluster,
}
