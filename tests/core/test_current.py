import asyncio
import gc
import threading
from collections.abc import Iterator
from contextvars import Token

import pytest

from app.core import current
from app.core.errors import ConfigurationError


class Thing:
    """What a layer holds; asked on the class, it answers for the layer that is meant."""

    _layer_attribute = "thing"

    def __init__(self, name: str) -> None:
        self.name = name

    @current.on_current
    def who(self, greeting: str = "I am") -> str:
        """Say who."""
        return f"{greeting} {self.name}"


class Layer:
    def __init__(self, name: str) -> None:
        self.closed = False
        self.thing = Thing(name)


built: list[Layer] = []


def build() -> Layer:
    built.append(Layer("default"))
    return built[-1]


@pytest.fixture(autouse=True)
def _empty_slot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The slot is the process's: give it back as it was found."""
    monkeypatch.setattr(current, "_DEFAULT_BUILDER", f"{__name__}:build")
    monkeypatch.setattr(current, "_open", type(current._open)())
    monkeypatch.setattr(current, "_default", None)
    monkeypatch.setattr(current, "_had_own", False)
    built.clear()
    yield
    built.clear()


def opened(name: str) -> Layer:
    layer = Layer(name)
    current.opened(layer)
    return layer


def test_with_none_open_the_default_is_built_once() -> None:
    assert current.layer() is current.layer()
    assert len(built) == 1


def test_a_closed_default_is_built_anew() -> None:
    first = built_default()
    first.closed = True
    assert current.layer() is not first
    current.closed(built[-1])
    current.layer()
    assert len(built) == 3


def built_default() -> Layer:
    current.layer()
    return built[-1]


def test_many_threads_build_one_default() -> None:
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        current.layer()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_the_one_open_layer_is_meant() -> None:
    layer = opened("only")
    assert current.layer() is layer
    assert Thing.who() == "I am only"
    assert built == []


def test_several_open_and_none_entered_is_an_error() -> None:
    layers = [opened("a"), opened("b")]
    with pytest.raises(ConfigurationError, match="2 DataLayers are open and none is entered here"):
        current.layer()
    current.closed(layers[0])
    assert current.layer() is layers[1]


def test_a_layer_that_was_closed_or_collected_does_not_count() -> None:
    first, second = opened("first"), opened("second")
    first.closed = True
    assert current.layer() is second
    del second
    gc.collect()
    assert Thing.who() == "I am default"


def test_no_default_takes_the_place_of_a_layer_that_was_closed() -> None:
    """What still runs would use another store than before."""
    first = opened("first")
    first.closed = True
    current.closed(first)
    with pytest.raises(ConfigurationError, match=r"closed: .* open a new one with DataLayer\.from_config"):
        current.layer()
    with pytest.raises(ConfigurationError, match="closed"):
        Thing.who()
    assert built == []
    second = opened("second")
    assert current.layer() is second


def test_a_default_that_is_there_stays_beside_other_layers() -> None:
    default = built_default()
    layer = opened("own")
    assert current.layer() is layer
    current.closed(layer)
    assert current.layer() is default


def test_the_entered_layer_comes_first() -> None:
    outer, inner = opened("outer"), opened("inner")
    outer_token = current.enter(outer)
    inner_token = current.enter(inner)
    assert current.layer() is inner
    current.leave(inner_token)
    assert current.layer() is outer
    outer.closed = True
    assert current.layer() is inner, "a closed layer is none, also where it is entered"
    current.leave(outer_token)


def test_a_token_of_another_context_empties_the_slot() -> None:
    layer = opened("fixture")
    token = asyncio.run(entered(layer))
    current.leave(token)
    assert current.layer() is layer


async def entered(layer: Layer) -> Token[current.Layer | None]:
    return current.enter(layer)


async def test_tasks_mean_the_layer_of_their_own_context() -> None:
    async def ask(name: str) -> str:
        token = current.enter(layers[name])
        await asyncio.sleep(0)
        answer = Thing.who()
        current.leave(token)
        return answer

    layers = {name: opened(name) for name in ("a", "b", "c")}
    assert await asyncio.gather(*map(ask, layers)) == ["I am a", "I am b", "I am c"]


def test_on_an_instance_the_method_is_an_ordinary_one() -> None:
    opened("current")
    assert Thing("me").who("this is") == "this is me"
    assert Thing.who.__doc__ == "Say who."


def test_the_class_answers_for_the_layer_of_the_moment() -> None:
    method = Thing.who
    assert method() == "I am default"
    layer = opened("later")
    assert Thing.who(greeting="now") == "now later"
    assert layer.thing.who() == "I am later"
