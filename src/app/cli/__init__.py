"""The command `manystore`."""

from .interrupt import leave_on_interrupt

__all__ = ["main"]


def main() -> None:
    """Run the command. Ctrl-C ends it with one line and exit code 130, also while its modules load."""
    leave_on_interrupt()
    from .commands import app  # noqa: PLC0415 - half a second, in which somebody may change their mind

    app()
