"""A text to the pieces that are embedded, each with the heading it stands under."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from langchain_text_splitters import TextSplitter

CHUNK_SIZE: Final = 1_000  # characters
CHUNK_OVERLAP: Final = 100

RULES: Final = f"1:{CHUNK_SIZE}:{CHUNK_OVERLAP}"
"""Changes with everything that changes the pieces of an unchanged text."""

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


@dataclass(frozen=True, slots=True)
class Chunk:
    text: str
    headings: tuple[str, ...] = ()
    """From the outermost to the one it stands under."""


def split_text(text: str, *, markdown: bool) -> list[Chunk]:
    """Pieces of at most CHUNK_SIZE characters, in order. In Markdown none reaches over a heading."""
    splitter = _splitter(markdown=markdown)
    sections = _sections(text) if markdown else iter([Chunk(text)])
    return [
        Chunk(piece, section.headings)
        for section in sections
        for piece in splitter.split_text(section.text)
        if piece.strip()
    ]


def _splitter(*, markdown: bool) -> "TextSplitter":
    from langchain_text_splitters import (  # noqa: PLC0415 - 0.3 s that only ingestion needs
        Language,
        RecursiveCharacterTextSplitter,
    )

    size: dict[str, Any] = {"chunk_size": CHUNK_SIZE, "chunk_overlap": CHUNK_OVERLAP}
    if markdown:
        return RecursiveCharacterTextSplitter.from_language(Language.MARKDOWN, **size)
    return RecursiveCharacterTextSplitter(**size)


def _sections(text: str) -> Iterator[Chunk]:
    """The parts between headings, verbatim. A heading with nothing under it stays with the part that follows."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    headings: tuple[str, ...] = ()
    said_something = False
    fence = ""
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        heading = None if fence else _HEADING.fullmatch(bare)
        if heading:
            if said_something:
                yield Chunk("".join(lines), headings)
                lines, said_something = [], False
            level = len(heading[1])
            path = [each for each in path if each[0] < level]
            path.append((level, (heading[2] or "").strip()))
            headings = tuple(title for _, title in path if title)
        else:
            fence = _fence_after(bare, fence)
            said_something = said_something or bool(bare.strip())
        lines.append(line)
    yield Chunk("".join(lines), headings)


def _fence_after(line: str, fence: str) -> str:
    """The fence that is open after a line: inside a code block a `#` is no heading."""
    mark = _FENCE.fullmatch(line)
    if not mark:
        return fence
    if not fence:
        return "" if mark[1][0] == "`" and "`" in mark[2] else mark[1]
    closes = mark[1][0] == fence[0] and len(mark[1]) >= len(fence) and not mark[2].strip()
    return "" if closes else fence
