"""The data layer. Names are loaded on first use: importing this package loads no driver."""
