"""What the text of the file means: variables, lines, and everything that can be wrong with it."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import Settings, load
from app.config.settings import MongoDBSettings, PostgresSettings, QdrantSettings, RedisSettings, SQLiteSettings
from app.core.errors import ConfigurationError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "manystore.yaml"
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write


def url_of(settings: Settings, name: str) -> str | None:
    section = settings.connections[name]
    assert not isinstance(section, SQLiteSettings)
    return None if section.url is None else section.url.get_secret_value()


def message(source: Path | dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(source)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


# ---------------------------------------------------------------- where settings come from


def test_settings_pass_through() -> None:
    settings = Settings()
    assert load(settings) is settings


def test_without_a_file_the_defaults_are_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load() == Settings()


def test_the_file_of_the_working_directory_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/default.yaml").write_text("data_dir: here")
    monkeypatch.chdir(tmp_path)
    assert load().data_dir == Path("here")


def test_the_variable_names_another_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYSTORE_CONFIG", str(write("data_dir: elsewhere")))
    assert load().data_dir == Path("elsewhere")
    monkeypatch.setenv("MANYSTORE_CONFIG", "/no/such/file.yaml")
    with pytest.raises(ConfigurationError, match=r"cannot read the configuration file /no/such/file\.yaml"):
        load()


def test_a_dict_has_the_same_shape_as_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_URL", "redis://there")
    source = {"connections": {"sqlite": {"path": "a.db", "timeout": 2}, "redis": {"url": "${SOME_URL}"}}}
    before = repr(source)
    path = write('connections: {sqlite: {path: a.db, timeout: 2}, redis: {url: "${SOME_URL}"}}')
    assert load(source) == load(path)
    assert repr(source) == before


def test_an_empty_file_is_the_default(write: Write) -> None:
    assert load(write("")) == load(write("# nothing\n")) == load(write("connections:\nembeddings: ~\n")) == Settings()


# ---------------------------------------------------------------- variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${GIVEN}", "from the environment"),
        ("${ABSENT}", None),
        ("${EMPTY}", None),
        ("${ABSENT:other}", "other"),
        ("${ABSENT:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${GIVEN:-other}", "from the environment"),
        ("${ABSENT:-}", None),
        ("${ABSENT:redis://h:6379/0}", "redis://h:6379/0"),
        ("redis://${ABSENT:-h}:${PORT}/0", "redis://h:6380/0"),
        ("redis://${ABSENT}:${PORT}/0", None),
        ("$${GIVEN}", "${GIVEN}"),
        ("$GIVEN ${} ${1} {GIVEN}", "$GIVEN ${} ${1} {GIVEN}"),
        ("${LOOP}", "${GIVEN}"),
    ],
)
def test_the_forms_of_a_variable(text: str, value: str | None, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"GIVEN": "from the environment", "EMPTY": "", "PORT": "6380", "LOOP": "${GIVEN}"}
    for name, content in environment.items():
        monkeypatch.setenv(name, content)
    monkeypatch.delenv("ABSENT", raising=False)
    assert url_of(load(write(f"connections: {{redis: {{url: '{text}'}}}}")), "redis") == value
    assert url_of(load({"connections": {"redis": {"url": text}}}), "redis") == value


@pytest.mark.parametrize(
    "value",
    ["x\nsqlite: {path: evil}", "}, sqlite: {path: evil", "'\"\n- a: b", "&a *a !!python/object:os.system", "\t#"],
)
def test_a_value_can_add_no_yaml(value: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE", value)
    for text in ("${HOSTILE}", '"${HOSTILE}"'):
        settings = load(write(f"connections:\n  redis:\n    url: {text}\n"))
        assert list(settings.connections) == ["redis"]
        assert url_of(settings, "redis") == value


def test_no_tag_makes_an_object(write: Write) -> None:
    settings = load(write('connections: {redis: {url: !!python/object/apply:os.getcwd "x"}}'))
    assert url_of(settings, "redis") == "x"


def test_a_variable_that_is_not_set_leaves_the_default(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    settings = load(write("connections: {mongodb: {database: '${ABSENT}', timeout: '${ABSENT}'}}"))
    assert settings.connections["mongodb"] == MongoDBSettings()


def test_a_variable_that_is_needed_and_not_set_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    path = write("""
        embeddings:
          mine:
            provider: ${ABSENT}
        """)
    assert message(path) == f"{path}, line 4: embeddings.mine.provider: Field required (ABSENT is not set)"


def test_what_was_not_set_can_be_asked(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    path = write("connections: {redis: {url: '${ABSENT}'}}\nembeddings: {openai_api_key: '${ABSENT}'}\n")
    settings = load(path)
    assert settings.unset_variable("connections", "redis", "url") == "ABSENT"
    assert settings.unset_variable("embeddings", "openai", "api_key") == "ABSENT"
    assert settings.unset_variable("connections", "redis", "timeout") is None


# ---------------------------------------------------------------- types come from the settings


@pytest.mark.parametrize(
    "text", ["007", "0x1F", "1e3", "yes", "off", "2026-11-20", "1_000", "'007'", "true", "12:30:45"]
)
def test_a_text_stays_as_it_is_written(text: str, write: Write) -> None:
    settings = load(write(f"connections: {{qdrant: {{url: embedded, api_key: {text}}}}}"))
    section = settings.connections["qdrant"]
    assert isinstance(section, QdrantSettings)
    assert section.api_key == SecretStr(text.strip("'"))


def test_a_number_is_read_where_a_number_belongs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "20")
    section = load(write("connections: {postgres: {pool: {max_size: '${SIZE}'}, timeout: 2.5}}")).connections[
        "postgres"
    ]
    assert isinstance(section, PostgresSettings)
    assert (section.pool.max_size, section.timeout) == (20, 2.5)


def test_quoted_null_is_text(write: Write) -> None:
    assert url_of(load(write("connections: {redis: {url: 'null'}}")), "redis") == "null"
    assert url_of(load(write("connections: {redis: {url: null}}")), "redis") is None


NEON = "postgresql+asyncpg://u:p@ep-x.neon.tech/db?sslmode=require&channel_binding=require"


def test_a_database_url_is_kept_whole(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", NEON)
    assert url_of(load(write("connections: {postgres: {url: '${DATABASE_URL}'}}")), "postgres") == NEON


# ---------------------------------------------------------------- what is wrong is named, with its line

WRONG = {
    "unknown section": ("conections: {}", "line 1", "unknown key 'conections' (did you mean 'connections'?)"),
    "unknown key": (
        "connections:\n  sqlite:\n    path: a\n    time_out: 5",
        "line 4",
        "unknown key 'time_out' (did you mean 'timeout'?)",
    ),
    "unknown nested key": (
        "connections:\n  postgres:\n    pool:\n      maxsize: 5",
        "line 4",
        "unknown key 'maxsize' (did you mean 'max_size'?)",
    ),
    "unknown key of a repository": (
        "repositories:\n  user: {conection: sqlite}",
        "line 2",
        "did you mean 'connection'?",
    ),
    "unknown key of a store": ("vector_stores:\n  d:\n    conection: qdrant", "line 3", "did you mean 'connection'?"),
    "unknown key of a model": ("embeddings:\n  a:\n    provider: x\n    modle: y", "line 4", "did you mean 'model'?"),
    "unknown type": (
        "connections:\n  main:\n    type: sqlit",
        "line 3",
        "unknown type 'sqlit' (did you mean 'sqlite'?)",
    ),
    "no type": ("connections:\n  sqllite:\n    path: a", "line 2", "needs a type (did you mean 'sqlite'?)"),
    "a key of another type": ("connections:\n  sqlite:\n    url: x", "line 3", "unknown key 'url'"),
    "not a number": ("connections:\n  sqlite:\n    timeout: soon", "line 3", "connections.sqlite.timeout: "),
    "not positive": ("connections:\n  redis:\n    timeout: -1", "line 3", "greater than 0"),
    "endless": ("connections:\n  redis:\n    timeout: inf", "line 3", "finite number"),
    "not one of": ("connections:\n  sqlite:\n    synchronous: off", "line 3", "'full' or 'normal'"),
    "a text for a section": ("connections: sqlite", "line 1", "connections: "),
    "a text for a connection": ("connections:\n  sqlite: app.db", "line 2", "'sqlite' must be a mapping"),
    "a list for a section": ("connections:\n  - sqlite", "line 1", "connections: "),
    "a list at the top": ("- connections", "manystore.yaml", "the top level must be a mapping of sections"),
    "a text at the top": ("connections", "manystore.yaml", "the top level must be a mapping of sections"),
    "no such connection": (
        "connections: {sqlite: }\nrepositories:\n  user:\n    connection: sqlit",
        "line 4",
        "no connection named 'sqlit' (did you mean 'sqlite'?); there is: sqlite",
    ),
    "no such connection of a store": (
        "vector_stores:\n  d:\n    connection: qdrat",
        "line 3",
        "no connection named 'qdrat' (did you mean 'qdrant'?)",
    ),
    "no such model": (
        "vector_stores:\n  d:\n    connection: qdrant\n    embedding: defualt",
        "line 4",
        "no embedding named 'defualt' (did you mean 'default'?)",
    ),
    "a repository that was not moved": (
        "connections: {redis: }\nrepositories: {user: {connection: sqlite}}",
        "line 2",
        "",
    ),
    "a key twice": (
        "connections:\n  sqlite: {path: a}\n  sqlite: {path: b}",
        "line 3",
        "the key 'sqlite' is already given on line 2",
    ),
    "a key that is no text": ("connections:\n  ? [a, b]\n  : {}", "line 2", "a key must be plain text"),
    "open quote": ("connections:\n  sqlite:\n    path: 'a\n", "line", "not valid YAML"),
    "open bracket": ("connections: {sqlite: {path: a}\n", "line 2", "not valid YAML"),
    "a tab": ("connections:\n\tsqlite: {}", "line 2", "not valid YAML"),
    "wrong indent": ("connections:\n  sqlite:\n    path: a\n   timeout: 5", "line 4", "not valid YAML"),
    "unknown alias": ("connections: *nothing", "line 1", "not valid YAML"),
    "two documents": ("data_dir: a\n---\ndata_dir: b", "line 2", "not valid YAML"),
    "control character": ("data_dir: a\0b", "manystore.yaml", "not valid YAML"),
    "itself": ("connections: &all\n  sqlite: *all", "line 1", "nested too deeply"),
    "very deep": ("a: " + "[" * 5000, "manystore.yaml", "nested too deeply"),
    "flat key of nobody": ("embeddings:\n  device: cpu", "line 2", "'device' is for huggingface or instructor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name: str, write: Write) -> None:
    text, line, words = WRONG[name]
    path = write(text)
    found = message(path)
    assert found.startswith(str(path))
    assert line in found.partition(": ")[0]
    assert words in found
    assert "\n" not in found


def test_a_wrong_dict_names_the_path() -> None:
    found = message({"connections": {"sqlite": {"timeout": 0}}})
    assert found.startswith("settings: connections.sqlite.timeout: ")
    assert "must be a mapping of settings" in message({"connections": {"sqlite": 1}})


def test_several_faults_are_named_together(write: Write) -> None:
    found = message(write("connections:\n  redis:\n    timeout: x\n  postgres:\n    timeout: y\n"))
    assert "line 3" in found
    assert "line 5" in found


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert message(tmp_path).startswith(f"cannot read the configuration file {tmp_path}: ")
    assert message(tmp_path / "absent.yaml").endswith("No such file or directory")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("data_dir: a\n# caf\xe9\n".encode("latin-1"))
    assert message(latin) == f"{latin}, line 2: not UTF-8"


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfdata_dir: a\r\n")
    assert load(path).data_dir == Path("a")


def test_an_anchor_may_be_used_twice(write: Write) -> None:
    settings = load(write("connections:\n  redis: &common {url: redis://a}\n  other: {type: redis, url: redis://b}\n"))
    assert isinstance(settings.connections["other"], RedisSettings)
    settings = load(write("repositories:\n  user: &here {connection: sqlite}\n  signup_session: *here\n"))
    assert settings.repositories["user"] == settings.repositories["signup_session"]
