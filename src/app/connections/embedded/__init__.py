"""Servers that start themselves (`url: embedded`), from the binaries in wheels."""
