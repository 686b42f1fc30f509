"""Which files are ingested, and their text."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...core.errors import AppError

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
        if not stat.S_ISREG(path.stat().st_mode):
            return Skipped(path, "not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror or error}")
    if len(content) > MAX_BYTES:
        return Skipped(path, f"larger than {MAX_BYTES // 2**20} MiB")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return Skipped(path, "binary" if b"\0" in content else "not UTF-8 text")
    if "\0" in text:
        return Skipped(path, "binary")
    if not text.strip():
        return Skipped(path, "empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _walk(folder: Path) -> Iterator[Path | Skipped]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(folder, f"cannot be read: {error.strerror or error}")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            yield Skipped(path, "hidden")
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path)
        elif entry.is_dir():
            yield Skipped(path, "a link to a folder")
        elif path.suffix.lower() not in MARKDOWN | TEXT:
            yield Skipped(path, "not a text or Markdown file")
        else:
            yield path
