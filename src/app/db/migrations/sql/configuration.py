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


def write_ini(path: Path, directories: Mapping[str, Path]) -> bool:
    """Write an `alembic.ini` for these connections, the first of them as the command's default; False if it is there.

    It names no address: that comes from the configuration of the application.
    """
    if path.exists() or not directories:
        return False
    text = [_HEAD]
    for number, (name, directory) in enumerate(directories.items()):
        try:
            place = f"%(here)s/{directory.absolute().relative_to(path.absolute().parent).as_posix()}"
        except ValueError:
            place = str(directory.absolute()).replace("%", "%%")
        text.append(f"[{'alembic' if number == 0 else name}]")
        text.append(f"connection = {name}")
        text.append(f"script_location = {__package__}:scripts")
        text.append(f"version_locations = {place}")
        text += [f"{option} = {value}" for option, value in _FIXED.items()]
        text.append("prepend_sys_path = .\n")
    path.write_text("\n".join(text), encoding="utf-8")
    return True


_HEAD = """\
# For the command `alembic` (revision, upgrade, downgrade, check, history …), which does what `manystore migrate` does.
# The connections are those of the application's configuration (MANYSTORE_CONFIG, else config/default.yaml); with more
# than one, `alembic -n NAME …` takes another than the first.
"""
