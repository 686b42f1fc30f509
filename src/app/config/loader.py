"""One YAML file (or dict) to typed settings, with the line of everything that is wrong.

Scalars stay text: what `007` means is decided by the settings model, not by the look of it. `${VAR}` is replaced in
parsed scalars only, so a value can never add YAML of its own.
"""

import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..core.errors import ConfigurationError
from .defaults import DATABASE_VARIABLE, defaults
from .settings import Settings, shown

CONFIG_VARIABLE = "MANYSTORE_CONFIG"
DEFAULT_FILE = Path("config/default.yaml")

Location = tuple[Hashable, ...]

# `$${…}` is a literal `${…}`; `${VAR:default}` and `${VAR:-default}` mean the same.
_VARIABLE = re.compile(r"\$?\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-?(?P<default>[^}]*))?\}")
_DEEPEST = 20  # an alias may contain itself
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass
class _Tree:
    """What was read: plain data, the line of every key and item, and the variables that were not set."""

    source: str
    data: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    unset: dict[Location, str] = field(default_factory=dict)

    def known(self, location: Location) -> Location:
        """The part of a location that the file has. Validation adds parts of its own, such as a union's tag."""
        path: Location = ()
        for part in location:
            if (*path, part) in self.lines:
                path = (*path, part)
        return path

    def where(self, path: Location) -> str:
        line = self.lines.get(path)
        return f"{self.source}, line {line}" if line else self.source


def load(source: str | os.PathLike[str] | Mapping[str, Any] | Settings | None = None) -> Settings:
    """Return settings from a file, a dict of the same shape, or ready settings.

    None means the file that MANYSTORE_CONFIG names, else `config/default.yaml` of the working directory, else the
    built-in defaults, with the database that DATABASE_URL names. ConfigurationError names file, line and the nearest
    known key.
    """
    if isinstance(source, Settings):
        return source
    if isinstance(source, Mapping):
        tree = _Tree("settings")
        tree.data = _from_python(source, tree, ())
        return _validate(tree)
    if source is None:
        named = os.environ.get(CONFIG_VARIABLE)
        if not named and not DEFAULT_FILE.is_file():
            return defaults(os.environ.get(DATABASE_VARIABLE))
        source = named or DEFAULT_FILE
    return _validate(_read(Path(source)))


def _read(path: Path) -> _Tree:
    tree = _Tree(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {error.strerror}") from error
    node = problem = None
    # Errors of these libraries keep the text, secrets included, so none of them is in the chain of ours.
    try:
        node = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line_number = content.count(b"\n", 0, error.start) + 1
        problem = f", line {line_number}: not UTF-8"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = f"{line}: not valid YAML: {_QUOTED.sub(_unless_short, error.problem or error.context or '')}"
    except yaml.YAMLError:
        problem = ": not valid YAML: a character that YAML does not allow"
    except RecursionError:
        problem = ": nested too deeply"
    if problem is not None:
        raise ConfigurationError(f"{path}{problem}")
    tree.data = {} if node is None else _from_node(node, tree, ())
    return tree


_QUOTED = re.compile(r"'([^']*)'")


def _unless_short(quoted: re.Match[str]) -> str:
    """What the YAML library quotes may be a piece of a password, unless it is one character or a `<token>`."""
    return quoted[0] if len(quoted[1]) <= 1 or quoted[1].startswith("<") else "…"


def _from_node(node: yaml.Node, tree: _Tree, path: Location) -> Any:
    line = node.start_mark.line + 1
    tree.lines.setdefault(path, line)
    if len(path) > _DEEPEST:
        raise ConfigurationError(f"{tree.source}, line {line}: nested too deeply")
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigurationError(f"{tree.source}, line {key_line}: a key must be plain text")
            key = key_node.value
            if key in result:
                first = tree.lines[(*path, key)]
                raise ConfigurationError(
                    f"{tree.source}, line {key_line}: the key {shown(key)!r} is already given on line {first}"
                )
            tree.lines[(*path, key)] = key_line
            result[key] = _from_node(value_node, tree, (*path, key))
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_from_node(item, tree, (*path, index)) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS:
        return None
    return _substitute(str(node.value), tree, path)


def _from_python(value: Any, tree: _Tree, path: Location) -> Any:
    tree.lines[path] = 0  # known, but on no line
    if isinstance(value, Mapping):
        return {str(key): _from_python(item, tree, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_from_python(item, tree, (*path, index)) for index, item in enumerate(value)]
    return _substitute(value, tree, path) if isinstance(value, str) else value


def _substitute(text: str, tree: _Tree, path: Location) -> str | None:
    """Replace the variables; None when one of them is not set and has no default."""
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        value = os.environ.get(match["name"]) or match["default"]
        if value is None:
            missing.append(match["name"])
            return ""
        return value

    replaced = _VARIABLE.sub(replace, text)
    if missing:
        tree.unset[path] = missing[0]
        return None
    return replaced


def _validate(tree: _Tree) -> Settings:
    if not isinstance(tree.data, dict):
        raise ConfigurationError(f"{tree.source}: the top level must be a mapping of sections")
    settings, problems = None, []
    try:
        settings = Settings.model_validate(tree.data)
    except ValidationError as error:
        problems = [_describe(problem, tree) for problem in error.errors(include_input=False, include_url=False)]
    if settings is None:  # raised here, since pydantic's error keeps the input, secrets included
        raise ConfigurationError("; ".join(problems))
    settings.remember_unset({".".join(map(str, path)): name for path, name in tree.unset.items()})
    return settings


def _describe(problem: Mapping[str, Any], tree: _Tree) -> str:
    location = (*problem["loc"], *(problem.get("ctx") or {}).get("path", ()))
    known = tree.known(location)
    if problem["type"] == "settings":
        return f"{tree.where(known)}: {problem['msg']}"
    keys = known if location[-1:] == known[-1:] or not known else (*known, location[-1])
    unset = tree.unset.get(keys)
    reason = f"{problem['msg']} ({unset} is not set)" if unset else problem["msg"]
    return f"{tree.where(known)}: {'.'.join(map(shown, keys or location))}: {reason}"
