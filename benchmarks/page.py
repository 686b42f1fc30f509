"""Where the numbers of a benchmark come from, and the page that they go into."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

_BEGIN = "<!-- results -->\n"
_END = "<!-- end of results -->\n"


def head(target: str, packages: Sequence[str]) -> str:
    given = " ".join(sys.argv[1:])
    command = f'make {target} ARGS="{given}"' if given else f"make {target}"
    machine = f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release()}"
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"Made by `{command}` on {time.strftime('%Y-%m-%d')}, on {machine} with a load of {load} before;\n"
        f"Python {platform.python_version()}, {versions}."
    )


def write(page: Path, results: str) -> None:
    """Put them in the place of the page's last ones."""
    before, rest = page.read_text("utf-8").split(_BEGIN)
    page.write_text(f"{before}{_BEGIN}\n{results}\n{_END}{rest.partition(_END)[2]}", "utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
