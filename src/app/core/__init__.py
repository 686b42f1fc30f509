"""The ground every other layer stands on: names, errors, registries, the current data layer."""
