"""A secret is in no message, no repr and no traceback, however the file that holds it is broken."""

import logging
import random
import string
import traceback
from pathlib import Path

import pytest

from app.config import Settings, load
from app.core.errors import ConfigurationError

SECRET = "hunter2swordfish"

WHOLE = f"""\
data_dir: .manystore
connections:
  sqlite: {{path: app.db}}
  mongodb: {{url: "mongodb://user:{SECRET}@host:27017", database: app}}
  redis:
    url: redis://:{SECRET}@host:6379/0
    timeout: 5
  postgres:
    url: 'postgresql://user:{SECRET}@host/db?sslmode=require'
    pool: {{max_size: 20}}
  qdrant:
    url: embedded
    api_key: {SECRET}
repositories:
  user: {{connection: sqlite}}
embeddings:
  default: {{provider: wordllama}}
  openai: {{provider: openai, api_key: {SECRET}, options: {{token: {SECRET}}}}}
"""

BY_HAND = [
    f"connections: {{redis: {{url:redis://:{SECRET}@host}}}}",
    f"connections: {{redis: {{redis://:{SECRET}@host: }}}}",
    f"connections:\n  redis://:{SECRET}@host: {{}}",
    f"connections:\n  redis: redis://:{SECRET}@host",
    f"connections: redis://:{SECRET}@host",
    f"redis://:{SECRET}@host: x",
    f"redis://:{SECRET}@host",
    f"- redis://:{SECRET}@host",
    f"connections: {{redis: {{url: [redis://:{SECRET}@host]}}}}",
    f"connections: {{redis: {{url: {{redis: {SECRET}}}}}}}",
    f"connections: {{redis: {{url: *{SECRET}}}}}",
    f"connections: {{redis: {{url: !{SECRET}!x y}}}}",
    f"connections: {{redis: {{url: &{SECRET} a, timeout: &{SECRET} b}}}}",
    f"connections: {{redis: {{url: '{SECRET}}}}}",
    f'connections: {{redis: {{url: "{SECRET}\\q"}}}}',
    f"connections: {{redis: {{url: %{SECRET}}}}}",
    f"connections: {{redis: {{url: @{SECRET}}}}}",
    f"connections: {{redis: {{url: `{SECRET}`}}}}",
    f"connections: {{redis: {{url: a: {SECRET}}}}}",
    f"connections: {{redis: {{timeout: '://{SECRET}'}}}}",
    f"connections: {{postgres: {{pool: 'a:{SECRET}'}}}}",
    f"connections: {{redis: {{url: a, 'url:{SECRET}': b, 'url:{SECRET}': c}}}}",
    f"connections: {{'redis://:{SECRET}@h': {{type: redis, timeout: x}}}}",
    f"connections: {{redis: }}\nrepositories: {{user: {{connection: 'redis://:{SECRET}@h'}}}}",
    f"%YAML 9.9\n--- {SECRET}\n...\n--- {SECRET}",
    f"embeddings: {{'openai_api_key:{SECRET}'}}",
    f"embeddings: {{openai_api_key: [{SECRET}]}}",
    f"data_dir: {SECRET}\0",
]


def broken(count: int) -> list[str]:
    """The whole file with a few characters lost, doubled or replaced, each time elsewhere; never in the secret."""
    draw = random.Random(20261120)
    ends = [i for i in range(len(WHOLE)) if WHOLE[i : i + len(SECRET)] == SECRET]
    inside = {position for start in ends for position in range(start, start + len(SECRET))}
    free = [position for position in range(len(WHOLE)) if position not in inside]
    texts = []
    for _ in range(count):
        text = list(WHOLE)
        for position in draw.sample(free, draw.randint(1, 3)):
            text[position] = draw.choice(["", "", text[position] * 2, *draw.sample(string.punctuation + " \n\t", 3)])
        texts.append("".join(text))
    return texts


def shown(error: BaseException) -> str:
    """All that a log, a debugger or a console shows of an error and of what it carries along."""
    parts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        parts += [str(link), repr(link), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "".join(parts)


def test_no_broken_file_shows_its_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "broken.yaml"
    refused = 0
    for text in (*BY_HAND, *broken(800)):
        path.write_text(text, encoding="utf-8")
        try:
            settings = load(path)
        except ConfigurationError as error:
            refused += 1
            found = shown(error)
        else:
            found = f"{settings!r}{settings}{settings.model_dump_json(exclude={'embeddings'})}"
        assert SECRET not in found, f"{text}\n\n{found}"
    assert refused >= 300
    assert SECRET not in caplog.text


def test_a_wrong_encoding_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(WHOLE.encode() + b"# caf\xe9")
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert SECRET not in shown(caught.value)


def test_secrets_of_the_environment_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_URL", f"redis://:{SECRET}@host")
    settings = load({"connections": {"redis": {"url": "${SOME_URL}"}}})
    assert SECRET not in f"{settings!r}{settings}{settings.model_dump()}"
    with pytest.raises(ConfigurationError) as caught:
        load({"connections": {"redis": {"url": "${SOME_URL}", "timeout": "${SOME_URL}"}}})
    assert SECRET not in shown(caught.value)


def test_settings_made_in_python_hide_the_input_as_well() -> None:
    with pytest.raises(ValueError, match="Input should be") as caught:
        Settings.model_validate({"connections": {"redis": {"timeout": SECRET}}})
    assert SECRET not in str(caught.value)
