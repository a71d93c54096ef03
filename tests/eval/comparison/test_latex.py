"""A table goes in as text; what LaTeX would print of its source is read back."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from presel_lightning.eval.comparison.latex import escape, tabular

PRINTED = {
    **{rf"\{letter}": letter for letter in "&%$#_{}"},
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    "{[}": "[",
    "{*}": "*",
    r"$\pm$": "±",
}
"""What LaTeX prints for each piece of source that is not a letter of itself."""
TOKEN = re.compile(
    "|".join(map(re.escape, sorted(PRINTED, key=len, reverse=True))) + "|.", re.DOTALL
)
ACTIVE = set("\\&%$#_{}~^")
"""Characters that LaTeX does not print as they stand."""


def read(source: str) -> str:
    """The text that a piece of source prints; active characters left over are an error."""
    tokens = TOKEN.findall(source)
    assert not ACTIVE & set(tokens), source
    return "".join(PRINTED.get(token, token) for token in tokens)


def read_table(source: str) -> list[list[str]]:
    """Cells of a table, split where LaTeX splits them."""
    body = source.partition("\\toprule\n")[2].partition("\\bottomrule")[0]
    rows = [line for line in body.split("\n") if line not in ("", "\\midrule")]
    assert all(row.endswith(r" \\") for row in rows)
    return [[read(cell) for cell in row[:-3].split(" & ")] for row in rows]


LABELS = st.text(st.sampled_from("aé 1.,-&%$#_{}~^\\<>|[]*±()")).map(lambda text: text.strip())


@given(LABELS)
@example("\\%_{}~^")
@example("[a]*")
def test_escape_round_trip_prints_same_text(text: str) -> None:
    assert read(escape(text)) == " ".join(text.split())


@given(st.lists(st.lists(LABELS.filter(bool), min_size=3, max_size=3), min_size=2, max_size=4))
def test_tabular_round_trip_keeps_every_cell(rows: list[list[str]]) -> None:
    table = read_table(tabular("of a test", rows[0], rows[1:]))
    assert table == [[" ".join(cell.split()) for cell in row] for row in rows]


def test_tabular_hostile_labels_is_this_source() -> None:
    rows = [["a_b%&#", "1 ± 2"], [r"{x}$~^\y", "*[3]"]]
    assert tabular("pool\nof two lines", ["Method", "MME_1"], rows) == (
        "% pool of two lines\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "Method & MME\\_1 \\\\\n"
        "\\midrule\n"
        "a\\_b\\%\\&\\# & 1 $\\pm$ 2 \\\\\n"
        "\\{x\\}\\$\\textasciitilde{}\\textasciicircum{}\\textbackslash{}y & {*}{[}3] \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )
