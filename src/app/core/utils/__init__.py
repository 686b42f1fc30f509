"""The specification's place for `logger`."""
