"""Members of tars of all formats against `tarfile`."""

from __future__ import annotations

import io
import tarfile

from hypothesis import example, given
from hypothesis import strategies as st

from presel_lightning.shards.tar_members import members
from presel_lightning.shards.write import header

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
LONG = st.builds(
    lambda name, n: "/".join([name] * n),
    st.text("abc.", min_size=1, max_size=20),
    st.integers(1, 20),
)
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)


def packed(files: list[tuple[str, bytes, bytes]], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content, kind in files:
            info = tarfile.TarInfo(name)
            if kind == tarfile.AREGTYPE and len(name.encode()) > 100:
                # none of an old program; `tarfile` may take what it is cut to for a folder's
                kind = tarfile.REGTYPE
            info.type, info.mtime = kind, 1.5 if form == tarfile.PAX_FORMAT else 1
            info.linkname = "elsewhere" if kind == tarfile.SYMTYPE else ""
            folder = kind == tarfile.AREGTYPE and name.endswith("/")  # as before POSIX
            plain = kind in (tarfile.REGTYPE, tarfile.AREGTYPE) and not folder
            info.size = len(content) if plain else 0
            try:
                tar.addfile(info, io.BytesIO(content) if plain else None)
            except ValueError:  # a name that is too long for ustar
                continue
    return out.getvalue()


@example([("a/", b"", tarfile.AREGTYPE)], tarfile.USTAR_FORMAT)
@example([("\xe4/", b"", tarfile.AREGTYPE)], tarfile.PAX_FORMAT)
@given(
    st.lists(
        st.tuples(st.one_of(NAMES, LONG), st.binary(max_size=1100), st.sampled_from(KINDS)),
        max_size=8,
    ),
    st.sampled_from(FORMATS),
)
def test_members_are_those_of_tarfile(files: list[tuple[str, bytes, bytes]], form: int) -> None:
    content = packed(files, form)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        expected = [(i.name.rstrip("/"), i.offset_data, i.size) for i in tar if i.isreg()]
    found = [(m.name.rstrip("/"), m.offset, m.size) for m in members(content)[0]]
    assert found == expected


@given(st.integers(1, 6000))
def test_what_is_cut_off_is_found_up_to_the_last_whole_member(length: int) -> None:
    content = packed(
        [(f"{i}.txt", b"x" * 600, tarfile.REGTYPE) for i in range(3)], tarfile.GNU_FORMAT
    )
    whole = min(length // (512 + 1024), 3) + (length % 1536 >= 512 + 600 and length < 3 * 1536)
    found, broken = members(content[:length])
    assert (broken is not None) == (length < 3 * 1536 + 512)
    assert [member.name for member in found] == [f"{i}.txt" for i in range(whole)]


def test_a_damaged_header_is_named_by_its_place() -> None:
    content = bytearray(
        packed([(f"{i}.txt", b"x", tarfile.REGTYPE) for i in range(3)], tarfile.GNU_FORMAT)
    )
    content[1024 + 5] ^= 1
    found, broken = members(bytes(content))
    assert [member.name for member in found] == ["0.txt"]
    assert str(broken) == "no header of a member at byte 1024"


@given(NAMES, st.integers(0, 2**34))
def test_header_is_that_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, 0o444, "bigdata", "bigdata"
    assert header(name, size) == info.tobuf(tarfile.GNU_FORMAT)
