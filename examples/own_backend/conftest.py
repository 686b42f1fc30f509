"""The plugin gives `data_layer`, a DataLayer in memory for the tests of an application."""

pytest_plugins = ["app.testing.plugin"]
