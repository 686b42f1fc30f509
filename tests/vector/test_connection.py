"""The directory of collections: one engine for all loops, one process, nothing half-made."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import load
from app.config.settings import QdrantSettings
from app.connections import ConnectionFactory
from app.connections._qdrant_embedded import Collections
from app.connections.qdrant import QdrantConnectionManager
from app.core.constants import ConnectionType
from app.core.errors import (
    MissingDependencyError,
    OutcomeUnknownError,
    StoreUnavailableError,
    UnsupportedOperationError,
)

from .planned import Planned, doc, store_on


async def test_the_factory_gives_this_manager(tmp_path: Path) -> None:
    factory = ConnectionFactory(load({"data_dir": str(tmp_path)}))
    manager = factory.get_connection_manager(ConnectionType.QDRANT)
    assert isinstance(manager, QdrantConnectionManager)
    health = await manager.health()
    assert health.healthy
    assert health.server_version
    assert manager.get_connection_info() == {"type": "qdrant", "url": "embedded", "path": str(tmp_path / "qdrant")}
    await factory.close_all()


async def test_a_thousand_first_users_get_one_engine(manager: QdrantConnectionManager) -> None:
    store = store_on(manager, Planned())
    engines = await asyncio.gather(*(manager.engine() for _ in range(1000)))
    assert len({id(engine) for engine in engines}) == 1
    assert engines[0].users == 1
    await asyncio.gather(*(store.save_and_embed(None, [doc(f"text {n}", row_id=str(n))]) for n in range(1000)))
    assert await store.count() == 1000
    owners = [thread for thread in threading.enumerate() if thread.name.startswith(f"qdrant {manager.path}")]
    assert len(owners) == 1


async def test_cancelling_the_first_user_cancels_no_other(manager: QdrantConnectionManager) -> None:
    first = asyncio.create_task(manager.connect())
    await asyncio.sleep(0)
    others = [asyncio.create_task(manager.connect()) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    assert len({id(engine) for engine in await asyncio.gather(*others)}) == 1


def test_three_runs_in_one_process(tmp_path: Path) -> None:
    manager = QdrantConnectionManager(data_dir=tmp_path)
    store = store_on(manager, Planned())

    async def run(number: int) -> int:
        await store.save_and_embed(None, [doc(f"text {number}")])
        return await store.count()

    assert [asyncio.run(run(number)) for number in range(3)] == [1, 2, 3]
    manager.abandon()


def test_two_threads_with_a_loop_each_share_one_directory(tmp_path: Path) -> None:
    managers = [QdrantConnectionManager(data_dir=tmp_path) for _ in range(2)]
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    async def work(number: int) -> None:
        barrier.wait()
        store = store_on(managers[number], Planned())
        await asyncio.gather(
            *(store.save_and_embed(None, [doc(f"{number} {n}", row_id=f"{number}/{n}")]) for n in range(100))
        )
        assert await store.count() >= 100
        await managers[number].close()

    def main(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=main, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert asyncio.run(count(tmp_path)) == 200


async def count(data_dir: Path) -> int:
    async with QdrantConnectionManager(data_dir=data_dir) as manager:
        return await store_on(manager, Planned()).count()


@pytest.mark.usefixtures("leaves_nothing")
async def test_the_last_user_closes_and_the_next_opens_again(tmp_path: Path) -> None:
    for number in range(3):
        async with QdrantConnectionManager(data_dir=tmp_path) as manager:
            store = store_on(manager, Planned())
            await store.save_and_embed(None, [doc(f"text {number}")])
            assert await store.count() == number + 1


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


OPEN = """
import asyncio, sys
from pathlib import Path
from app.connections.qdrant import QdrantConnectionManager
asyncio.run(QdrantConnectionManager(data_dir=Path(sys.argv[1])).connect())
"""


async def test_a_second_process_is_refused_with_the_path(manager: QdrantConnectionManager, tmp_path: Path) -> None:
    await manager.connect()
    done = run_python(OPEN, str(tmp_path))
    assert done.returncode != 0
    assert "StoreUnavailableError" in done.stderr
    assert str(tmp_path / "qdrant") in done.stderr
    assert "one process" in done.stderr
    assert "Qdrant server" in done.stderr
    await manager.disconnect()
    done = run_python(OPEN, str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    manager = QdrantConnectionManager(data_dir=tmp_path)
    store = store_on(manager, Planned())
    adapter = store.as_langchain()
    adapter.add_texts(["before"], ids=["1"])

    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            try:
                asyncio.run(store.count())
            except StoreUnavailableError:
                try:
                    adapter.similarity_search("q")
                except StoreUnavailableError:
                    code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    # The child took nothing from its parent: the engine runs and the lock holds.
    adapter.add_texts(["after"], ids=["2"])
    assert asyncio.run(store.count()) == 2
    done = run_python(OPEN, str(tmp_path))
    assert "StoreUnavailableError" in done.stderr
    asyncio.run(manager.close())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_have_a_directory_of_its_own(tmp_path: Path) -> None:
    parent = QdrantConnectionManager(data_dir=tmp_path / "parent")
    store = store_on(parent, Planned())
    asyncio.run(store.save_and_embed(None, [doc("x")]))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            own = store_on(QdrantConnectionManager(data_dir=tmp_path / "child"), Planned())
            asyncio.run(own.save_and_embed(None, [doc("y")]))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    asyncio.run(parent.close())


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    manager = QdrantConnectionManager(data_dir=tmp_path / "file")
    with pytest.raises(StoreUnavailableError, match=str(tmp_path / "file")):
        await manager.connect()
    health = await manager.health()
    assert not health.healthy
    assert str(tmp_path / "file") in health.detail
    (tmp_path / "file").unlink()
    assert (await manager.health()).healthy, "a failed connect is not remembered"
    await manager.close()


async def test_a_server_has_no_engine_in_this_process(tmp_path: Path) -> None:
    settings = QdrantSettings(url=SecretStr("http://user:s3cret@127.0.0.1:9"))
    manager = QdrantConnectionManager(settings, data_dir=tmp_path)
    with pytest.raises(UnsupportedOperationError, match="is a Qdrant server") as raised:
        await manager.engine()
    assert "s3cret" not in f"{raised.value}{manager.get_connection_info()}{manager!r}"
    assert not manager.connected
    store = store_on(manager, Planned())
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as unreachable:
        await store.count()
    assert "s3cret" not in f"{unreachable.value}{store.get_vector_db_config()}"


async def test_a_missing_package_names_the_extra(
    manager: QdrantConnectionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    with pytest.raises(MissingDependencyError, match=r"manystore\[embedded\]"):
        await manager.connect()


async def test_the_engines_errors_are_ours(manager: QdrantConnectionManager) -> None:
    engine = await manager.engine()

    class PanicException(BaseException):
        """As a Rust panic arrives."""

    def fail(error: BaseException) -> Any:
        def work(_: Collections) -> None:
            raise error

        return work

    for error in (Exception("Service runtime error"), PermissionError("no"), PanicException("panicked")):
        with pytest.raises(StoreUnavailableError, match=manager.path) as raised:
            await engine.read(fail(error))
        assert raised.value.__cause__ is error
        with pytest.raises(OutcomeUnknownError):
            await engine.write(fail(error))
    with pytest.raises(ValueError, match="mine"):
        await engine.read(fail(ValueError("mine")))
    assert await engine.read(Collections.names) == []


async def test_a_damaged_contract_is_named(manager: QdrantConnectionManager) -> None:
    store = store_on(manager, Planned())
    await store.save_and_embed(None, [doc("x")])
    await manager.disconnect()
    file = Path(manager.path) / "documents" / "contract.json"
    good = file.read_text()
    assert json.loads(good) == {"provider": "Planned", "model": "planned", "dimension": 4, "distance": "cosine"}
    for damaged in ("", "{", "[]", '{"provider": "x"}', '{"distance": "far"}'):
        file.write_text(damaged)
        with pytest.raises(StoreUnavailableError, match="contract"):
            await store.count()
        await manager.disconnect()
    file.write_text(good)
    assert await store.count() == 1


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from app.connections import _qdrant_embedded as engine, qdrant
from app.db.vector import qdrant_collection
from planned import Planned, doc, store_on

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv[3]
if moment == "making the shard":
    make = qdrant_collection._make_shard
    qdrant_collection._make_shard = lambda *a: (make(*a), die())
elif moment == "writing the contract":
    engine.json.dump = lambda data, file, **_: (file.write('{"prov'), file.flush(), die())
elif moment == "before the rename":
    engine.Path.rename = die
elif moment == "after the rename":
    rename = engine.Path.rename
    engine.Path.rename = lambda *a: (rename(*a), die())
manager = qdrant.QdrantConnectionManager(data_dir=Path(sys.argv[1]))
asyncio.run(store_on(manager, Planned()).save_and_embed(None, [doc("x")]))
"""


@pytest.mark.parametrize(
    "moment", ["making the shard", "writing the contract", "before the rename", "after the rename", "at the end"]
)
async def test_a_process_killed_while_making_a_collection_leaves_a_working_directory(
    tmp_path: Path, moment: str
) -> None:
    here = str(Path(__file__).parent)
    done = run_python(KILLED, str(tmp_path), here, moment)
    assert done.returncode == (0 if moment == "at the end" else -signal.SIGKILL), done.stderr
    async with QdrantConnectionManager(data_dir=tmp_path) as manager:
        store = store_on(manager, Planned())
        before = await store.count()
        assert before == (moment == "at the end")
        await store.save_and_embed(None, [doc("y", row_id="y")])
        assert await store.count() == before + 1
        assert sorted(each.name for each in Path(manager.path).iterdir()) == [".lock", "documents"]


async def test_what_a_killed_process_left_is_removed_by_the_next_opening(
    manager: QdrantConnectionManager, tmp_path: Path
) -> None:
    left = tmp_path / "qdrant" / ".new-other" / "shard"
    left.mkdir(parents=True)
    await manager.connect()
    assert [each.name for each in Path(manager.path).iterdir()] == [".lock"]
