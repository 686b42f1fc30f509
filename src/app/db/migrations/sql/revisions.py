"""The files of revisions as Alembic orders them, beside what the database has of them."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionMap
from alembic.util import CommandError, to_tuple

from ....core.errors import MigrationError
from ..files import checksum
from ..ledger import Entry, State

REPAIR = "`manystore migrate repair` finishes it, and with --revert takes it back"


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision: its file, and what the database has of it. One of the two may be missing."""

    id: str
    name: str
    script: Script | None
    entry: Entry | None
    applied: bool

    @property
    def state(self) -> str:
        entry = self.entry
        if entry is not None and not entry.complete:
            return "failed" if entry.state is State.FAILED else "interrupted"
        if not self.applied:
            return "pending"
        if self.script is None:
            return "missing"
        # Alembic by itself may have applied it, before there was a ledger.
        return "edited" if entry is not None and entry.checksum != checksum_of(self.script) else "applied"


def directory_of(config: Config) -> ScriptDirectory:
    directory = ScriptDirectory.from_config(config)
    directory.revision_map = RevisionMap(partial(_read, directory))
    return directory


def _read(directory: ScriptDirectory) -> Iterator[Script]:
    """Python keeps what it compiled by second and size, and would run the old text of a file corrected within one."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield from directory._load_revisions()  # noqa: SLF001 - what it is made with
    finally:
        sys.dont_write_bytecode = before


def name_of(script: Script) -> str:
    return Path(script.path).stem


def checksum_of(script: Script) -> str:
    return checksum(Path(script.path))


def load(directory: ScriptDirectory) -> list[Script]:
    """All revisions, first to last. MigrationError where a file cannot be imported, or two are the same revision."""
    try:
        with warnings.catch_warnings():  # of Alembic's, about what is said here as an error
            warnings.simplefilter("ignore", UserWarning)
            scripts = [*directory.walk_revisions()][::-1]
    except (CommandError, MigrationError):
        raise
    except KeyError as error:
        _refuse_gaps(directory, error.args[0])
        raise _not_imported(directory, error) from error
    except Exception as error:
        raise _not_imported(directory, error) from error
    files = [each for each in Path(directory.versions).glob("*.py") if not each.name.startswith("_")]
    if len(files) > len(scripts):
        used = {Path(each.path).name for each in scripts}
        left = ", ".join(sorted(each.name for each in files if each.name not in used))
        raise MigrationError(f"{left} in {directory.versions} says the `revision` of another file: give it its own")
    return scripts


def _not_imported(directory: ScriptDirectory, error: Exception) -> MigrationError:
    return MigrationError(
        f"a file in {', '.join(map(str, directory.version_locations))} cannot be imported: "
        f"{type(error).__name__}: {error}"
    )


def _refuse_gaps(directory: ScriptDirectory, missing: object) -> None:
    """MigrationError where a file says that it follows one that is not there; a KeyError is all that Alembic has."""
    try:
        scripts = [*directory._load_revisions()]  # noqa: SLF001 - each for itself
    except KeyError:  # a file's own
        return
    for each in scripts:
        if missing in (*to_tuple(each.down_revision, default=()), *to_tuple(each.dependencies, default=())):
            raise MigrationError(
                f"{each.path}: it follows the revision {missing!r}, and no file is that one: restore the file"
            ) from None


def refuse_heads(connection: str, directory: ScriptDirectory) -> None:
    """MigrationError where it is open in which order revisions go."""
    heads = sorted(name_of(directory.get_revision(each)) for each in directory.get_heads())
    if len(heads) > 1:
        raise MigrationError(
            f"{connection}: nothing says which of {' and '.join(heads)} comes first: give one of them the `revision` "
            "of the other as its `down_revision`"
        )


def known(
    directory: ScriptDirectory, scripts: Sequence[Script], heads: Sequence[str], entries: Mapping[str, Entry]
) -> list[Revision]:
    """First to last; what has no file any more comes last."""
    files = {each.revision: each for each in scripts}
    applied = ancestors(directory, [head for head in heads if head in files])
    if any(head not in files for head in heads):  # and what it follows is not known by it
        applied |= {key for key, entry in entries.items() if entry.complete}
    missing = {each for each in (*heads, *entries) if each not in files}
    found = [Revision(key, name_of(each), each, entries.get(key), key in applied) for key, each in files.items()]
    return found + [
        Revision(each, entries[each].name if each in entries else each, None, entries.get(each), applied=True)
        for each in sorted(missing)
    ]


def ancestors(directory: ScriptDirectory, heads: Sequence[str]) -> set[str]:
    """What is applied where these are the heads."""
    if not heads:
        return set()
    return {each.revision for each in directory.iterate_revisions(tuple(heads), "base", inclusive=True)}


def refuse_unsound(connection: str, revisions: Sequence[Revision]) -> None:
    """MigrationError where one stands in the way of any other."""
    for each in revisions:
        if each.state == "edited":
            raise MigrationError(
                f"{connection}: {each.name} was edited after it was applied: restore the file, and write what shall "
                "change as a new migration; or `manystore migrate repair --accept-edits`"
            )
        if each.state == "missing":
            raise MigrationError(f"{connection}: the file of {each.name} is gone: restore it to go on")
        if each.state in ("failed", "interrupted"):
            reason = (each.entry and each.entry.error) or "it was interrupted"
            raise MigrationError(f"{connection}: {each.name} is half done ({reason}): {REPAIR}")


def named(revisions: Sequence[Revision], name: str) -> Revision:
    """The one that is called so, or begins so, or has this id."""
    found = [each for each in revisions if name in (each.name, each.id)]
    found = found or [each for each in revisions if each.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in revisions) or "none"
        raise MigrationError(f"{len(found) or 'no'} migrations begin with {name!r}; there is: {names}")
    return found[0]
