"""What mends each kind of problem, for messages; `docs/pool.md` has the same kinds."""

from __future__ import annotations

from collections.abc import Mapping

from presel_lightning.data.images import LIMIT

CURES = {
    "not_json": "write it again as JSON",
    "not_a_record": "write one object a record",
    "bad_number": "write the number as text",
    "not_unicode": "save the annotation file in UTF-8, or rename the image file",
    "repeated_key": "take one of the two keys out",
    "too_deep": "take the field out",
    "too_large": "take the field out",
    "other_form": "write the instruction as `conversations`",
    "bad_row": "write the row with as many cells as the first line",
    "not_unpacked": "see `detail` in problems.csv",
    "conversations_not_a_list": "write a list of turns, or leave `conversations` out",
    "bad_turn": 'write each turn as {"from": "human", "value": "..."}',
    "unknown_role": "rename the role to human or gpt",
    "roles_not_alternating": "join or reorder the turns to human, gpt, human, gpt",
    "turn_without_answer": "write the answer, or take the question out",
    "empty_answer": "write the answer, or take both turns out",
    "image_token_in_answer": "take <image> out of the answer",
    "image_token_without_image": "add the path as `image`, or take <image> out",
    "image_without_token": "put <image> into the first question",
    "several_images": (
        "set data.several_images to keep, where the model's template takes several, or write one "
        "record an image"
    ),
    "image_token_count": "write as many <image> as the record has images, or none",
    "video": "take the record out",
    "audio": "take the record out",
    "image_not_a_path": "give a path, or leave `image` out",
    "no_image": (
        "write a list of records, not an object around them, each with the path of its image as "
        "`image`, or a conversation"
    ),
    "unknown_task": (
        "set data.task_key to the field that names the task, or data.task_rules or data.task_files; "
        "move a stray image into the folder of its task"
    ),
    "bad_task": "write the task as a text, or set data.task_key to another field",
    "bad_value": "give a text or a number",
    "list_value": "set data.answer_lists to first or most_common, or write one text",
    "repeated_record": "remove it, the other one is kept",
    "missing": (
        "fetch the file (a URL is not downloaded), or set data.image_root to the folder that image "
        "paths start from"
    ),
    "outside_root": (
        "set data.follow_links to true where links lead out of the image root; write other paths "
        "relative to data.image_root"
    ),
    "empty": "fetch the file again",
    "not_an_image": "convert it to JPEG or PNG, or remove it from the folder",
    "truncated": "fetch the file again",
    "oversized": f"shrink it, or raise data.max_pixels ({LIMIT} at most)",
    "elongated": "crop it",
    "excluded": "data.exclude names it; take its line out of that file to keep it",
    "unreadable": "see `detail` in problems.csv; convert the file or mend its permissions",
}
"""Cure by kind of problem."""

SHOWN = 3
"""Kinds whose cures a message names."""


def cures_of(by_problem: Mapping[str, int]) -> str:
    """Return the cures of the most frequent kinds of problems, on one line.

    Args:
        by_problem: number of problems by kind.
    """
    kinds = sorted(by_problem, key=lambda kind: -by_problem[kind])
    known = [f"{kind}: {CURES[kind]}" for kind in kinds if kind in CURES and by_problem[kind]]
    return "; ".join(known[:SHOWN])
