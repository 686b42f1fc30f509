"""Alembic's configuration: in memory for us, and as `alembic.ini` for its own command."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from alembic.config import Config

SCRIPTS: Final = Path(__file__).with_name("scripts")
_FIXED: Final = {
    "environment": f"{__package__}.environment",
    "file_template": "%%(rev)s_%%(slug)s",
    "truncate_slug_length": "60",
    "revision_environment": "true",
    "path_separator": "newline",
}


def alembic_config(connection: str, directory: Path, attributes: Mapping[str, Any]) -> Config:
    # Alembic says on the terminal what it does, where nobody says that it shall be quiet.
    config = Config(attributes=dict(attributes), cmd_opts=Namespace(quiet=True))
    options = {
        **_FIXED,
        "connection": connection,
        "script_location": str(SCRIPTS).replace("%", "%%"),
        "version_locations": str(directory.absolute()).replace("%", "%%"),
    }
    for name, value in options.items():
        config.set_main_option(name, value)
    return config


def write_ini(path: Path, directories: Mapping[str, Path]) -> None:
    """Write an `alembic.ini` for these connections, the first of them as the command's default.

    One that is there is completed where it is ours, and left alone where it is not. It names no address: that comes
    from the configuration of the application.
    """
    present = path.read_text("utf-8") if path.exists() else ""
    if present and _SCRIPTS not in present:
        return
    new = [name for name in directories if f"connection = {name}\n" not in present]
    text = present or _HEAD
    for number, name in enumerate(new):
        try:
            place = f"%(here)s/{directories[name].absolute().relative_to(path.parent).as_posix()}"
        except ValueError:
            place = str(directories[name].absolute()).replace("%", "%%")
        options = {
            "connection": name,
            "script_location": _SCRIPTS,
            "version_locations": place,
            "prepend_sys_path": ".",
            **_FIXED,
        }
        section = name if present or number else "alembic"
        text += f"\n[{section}]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
    if new:
        path.write_text(text, encoding="utf-8")


_SCRIPTS: Final = f"{__package__}:scripts"
_HEAD: Final = """\
# For the command `alembic` (revision, upgrade, downgrade, check, history …), which does what `manystore migrate` does.
# The connections are those of the application's configuration (MANYSTORE_CONFIG, else config/default.yaml); where there
# are several, `alembic -n NAME …` takes another than the first.
"""
