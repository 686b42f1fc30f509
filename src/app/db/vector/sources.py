"""Which files are ingested, and their text."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...core.errors import AppError
from ..models.values import check_text

MAX_BYTES: Final = 16 * 2**20

MARKDOWN: Final = frozenset({".md", ".markdown", ".mdown", ".mdx"})
TEXT: Final = frozenset({"", ".txt", ".text", ".rst", ".adoc", ".asciidoc", ".org", ".tex", ".log"})
"""What is taken from a folder; a file that is named itself may have any name. `""` is for README and LICENSE."""


class SourceNotFoundError(AppError, FileNotFoundError):
    """A path to ingest does not exist; nothing was ingested."""


@dataclass(frozen=True, slots=True)
class Skipped:
    path: Path
    reason: str
    has_no_text: bool = False
    """It was read, so what an earlier reading stored of it is no longer true."""


def find_sources(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[Skipped]]:
    """All files under the paths, absolute, in an order that depends on their names alone, each once.

    Hidden files and folders are left out below a folder, and links to folders are not followed, so there are no
    loops. SourceNotFoundError before anything else when a path does not exist.
    """
    # Not `resolve`: a document is known by the path it is reached by, see `DocumentMetadata`.
    roots = [Path(os.path.abspath(os.path.expanduser(path))) for path in paths]  # noqa: PTH100, PTH111
    missing = [str(root) for root in roots if not root.exists()]
    if missing:
        raise SourceNotFoundError(f"no such file or folder: {', '.join(missing)}")
    files: dict[Path, None] = {}
    skipped: dict[Path, Skipped] = {}
    for root in roots:
        for found in _walk(root) if root.is_dir() else [root]:
            if isinstance(found, Skipped):
                skipped.setdefault(found.path, found)
            else:
                files.setdefault(found)
    return list(files), [each for path, each in skipped.items() if path not in files]


def read_source(path: Path) -> str | Skipped:
    r"""The text with `\n` at the ends of lines, or why there is none."""
    try:
        check_text(str(path))
    except ValueError:
        return Skipped(path, "its name is not UTF-8")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Skipped(path, "not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror or error}")
    if len(content) > MAX_BYTES:
        return Skipped(path, f"larger than {MAX_BYTES // 2**20} MiB", has_no_text=True)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return Skipped(path, "binary" if b"\0" in content else "not UTF-8 text", has_no_text=True)
    if "\0" in text:
        return Skipped(path, "binary", has_no_text=True)
    if not text.strip():
        return Skipped(path, "empty", has_no_text=True)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _walk(root: Path) -> Iterator[Path | Skipped]:
    """Without recursion, since folders may nest deeper than calls of Python do."""
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            reason = None if path == root else _reason_to_skip(path)
            if reason is not None:
                yield Skipped(path, reason)
            elif path.is_dir():
                waiting += sorted((Path(entry.path) for entry in os.scandir(path)), reverse=True)
            else:
                yield path
        except OSError as error:
            yield Skipped(path, f"cannot be read: {error.strerror or error}")


def _reason_to_skip(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "a link to a folder" if path.is_symlink() else None
    return None if path.suffix.lower() in MARKDOWN | TEXT else "not a text or Markdown file"
