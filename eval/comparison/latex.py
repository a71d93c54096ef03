"""LaTeX tables: escaped text, rows between booktabs' rules."""

from __future__ import annotations

from collections.abc import Sequence

ESCAPES = str.maketrans(
    {
        **{letter: rf"\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        # other glyphs in LaTeX's default font encoding
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # an argument of `\\` where a row begins with it
        "[": "{[}",
        "*": "{*}",
        "±": r"$\pm$",
    }
)
"""Replacement of each character; one pass, so no escape is escaped again."""


def escape(text: str) -> str:
    """Escape a text for a LaTeX table; line breaks become spaces."""
    return " ".join(text.split()).translate(ESCAPES)


def tabular(comment: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table with booktabs' rules; the first column is text, the others are numbers.

    Args:
        comment: comment above the table in the source.
        head: plain text of the header cells.
        rows: plain text of the cells.
    """
    lines = [" & ".join(map(escape, cells)) + r" \\" for cells in (head, *rows)]
    return "\n".join(
        [
            f"% {' '.join(comment.split())}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
