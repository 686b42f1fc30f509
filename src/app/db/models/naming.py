"""What a collection is called when nobody says so."""

import re

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def collection_name(model: type) -> str:
    """`SignupSession` → `signup_sessions`, `Category` → `categories`, `AISettings` → `ai_settings`."""
    name = _WORDS.sub("_", model.__name__).lower()
    if re.search(r"(ss|x|ch|sh)$", name):
        return f"{name}es"
    if name.endswith("s"):
        return name
    return re.sub(r"(?<=[^aeiou])y$", "ie", name) + "s"
