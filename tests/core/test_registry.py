import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.core.errors import ConfigurationError, NotRegisteredError
from app.core.registry import Registry, import_target

Recipe = Callable[[], str]


def ready() -> str:
    return "ready"


def other() -> str:
    return "other"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution with an entry point: what pip would have put on the path."""
    info = tmp_path / "acme_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[manystore.testing]\nacme = acme_store:make\n")
    (tmp_path / "acme_store.py").write_text("def make():\n    return 'acme'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("acme_store", None)


def test_a_decorator_registers_and_returns_the_recipe() -> None:
    registry: Registry[Recipe] = Registry("thing")

    @registry.register("a")
    def recipe() -> str:
        return "a"

    assert registry.get("a") is recipe
    assert recipe() == "a"
    assert "a" in registry
    assert "b" not in registry


def test_an_import_string_is_imported_on_first_use_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_recipe.py").write_text("def make():\n    return 'lazy'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Recipe] = Registry("thing", {"lazy": "lazy_recipe:make"})
    assert registry.names() == ("lazy",)
    assert "lazy_recipe" not in sys.modules
    assert registry.get("lazy")() == "lazy"
    assert registry.get("lazy") is registry.get("lazy")


def test_a_leading_dot_counts_from_this_package() -> None:
    assert import_target(".core.registry:Registry") is Registry


@pytest.mark.parametrize("target", ["no_such_module_here:x", "json:no_such_name", "json"])
def test_an_import_string_that_leads_nowhere_raises(target: str) -> None:
    with pytest.raises((ImportError, AttributeError)):
        Registry("thing", {"a": target}).get("a")


@pytest.mark.usefixtures("plugin")
def test_an_installed_entry_point_is_found() -> None:
    registry: Registry[Recipe] = Registry("thing", entry_point_group="manystore.testing")
    registry.register("own", ready)
    assert registry.names() == ("acme", "own")
    assert "acme_store" not in sys.modules
    assert registry.get("acme")() == "acme"


@pytest.mark.usefixtures("plugin")
def test_an_entry_point_is_found_by_its_name_alone() -> None:
    registry: Registry[Recipe] = Registry("thing", entry_point_group="manystore.testing")
    assert registry.get("acme")() == "acme"


@pytest.mark.usefixtures("plugin")
def test_an_entry_point_does_not_replace_what_is_registered() -> None:
    registry: Registry[Recipe] = Registry("thing", entry_point_group="manystore.testing")
    registry.register("acme", ready)
    places = r"registered twice: by .*test_registry:ready and by acme_store:make"
    with pytest.raises(ConfigurationError, match=places):
        registry.names()


@pytest.mark.usefixtures("plugin")
def test_entry_points_of_another_group_are_left_alone() -> None:
    assert Registry("thing", entry_point_group="manystore.elsewhere").names() == ()


def test_a_duplicate_is_refused_and_names_both_places() -> None:
    registry: Registry[Recipe] = Registry("thing")
    registry.register("a", ready)
    with pytest.raises(ConfigurationError) as caught:
        registry.register("a", other)
    assert f"{__name__}:ready" in str(caught.value)
    assert f"{__name__}:other" in str(caught.value)
    assert registry.get("a") is ready


def test_a_duplicate_of_an_import_string_is_refused() -> None:
    registry: Registry[Recipe] = Registry("thing", {"a": "json:dumps"})
    with pytest.raises(ConfigurationError, match=rf"by json:dumps and by {__name__}:ready"):
        registry.register("a", ready)


def test_the_same_recipe_may_come_twice() -> None:
    """A module that is reloaded registers again, and one that an import string names registers while it is imported."""
    registry: Registry[Recipe] = Registry("thing", {"a": f"{__name__}:ready"})
    registry.register("a", ready)
    registry.register("a", ready)
    registry.register("a", f"{__name__}:ready")
    assert registry.get("a") is ready


def test_an_unknown_name_gets_a_suggestion_and_the_list() -> None:
    registry: Registry[Recipe] = Registry("store", {"sqlite": "json:dumps", "qdrant": "json:loads"})
    with pytest.raises(NotRegisteredError) as caught:
        registry.get("sqlit")
    assert str(caught.value) == "no store named 'sqlit' (did you mean 'sqlite'?); there is: qdrant, sqlite"
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(NotRegisteredError, match="no store named 'x'; there is: none"):
        Registry("store").get("x")


def test_many_threads_that_ask_first_get_one_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_recipe.py").write_text("import time\ntime.sleep(0.05)\ndef make():\n    return 'slow'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Recipe] = Registry("thing", {"slow": "slow_recipe:make"})
    found: list[Recipe] = []
    threads = [threading.Thread(target=lambda: found.append(registry.get("slow"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
