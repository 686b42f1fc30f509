"""What the options of a url have in common, whatever the store: none is dropped, and no value of one is shown."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ..core.errors import ConfigurationError

SettingsT = TypeVar("SettingsT", bound=Any)

_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class OptionError(ValueError):
    """An option has a value that it cannot have; the text says what it can, and shows none."""


def boolean(value: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if found is None:
        raise OptionError("true or false")
    return found


def number(value: str, *, whole: bool = False) -> float:
    """Seconds or connections: 0, which is no limit to others, is refused, since here there always is one."""
    if not _NUMBER.fullmatch(value) or float(value) <= 0 or (whole and not value.isdecimal()):
        raise OptionError(f"a {'whole ' if whole else ''}number greater than 0")
    return float(value)


def add(settings: dict[str, float], name: str, value: float) -> None:
    """Add what a url says of a setting, by its dotted name; several options may stand for one."""
    if settings.setdefault(name, value) != value:
        raise OptionError(f"the same as the other option that stands for `{name}`")


def settled(name: str, settings: SettingsT, by_url: Mapping[str, float]) -> SettingsT:
    """The settings of the connection `name` with what its url says in the place of what they leave out.

    ConfigurationError where both say something, and not the same: neither is overruled in silence.
    """
    for setting, value in by_url.items():
        section, _, key = setting.rpartition(".")
        holder = getattr(settings, section) if section else settings
        if key in holder.model_fields_set and getattr(holder, key) != value:
            raise ConfigurationError(
                f"the connection {name!r}: its url and its settings differ about `{setting}`: say it in one place"
            )
        changed = holder.model_copy(update={key: int(value) if key == "max_size" else value})
        settings = settings.model_copy(update={section: changed}) if section else changed
    return settings
