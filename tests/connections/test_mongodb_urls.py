"""The addresses of MongoDB that people really have: what each comes to, option by option, or why it is refused."""

from typing import Any

import pytest
from pydantic import SecretStr

from app.config.settings import MongoDBSettings, PoolSettings
from app.connections.mongodb import MongoDBConnectionManager
from app.core.errors import ConfigurationError

pytest.importorskip("pymongo")

ATLAS = "cluster0.ab1cd.mongodb.net"
AZURE = "shop.mongo.cosmos.azure.com:10255"


def manager_of(url: str, **settings: Any) -> MongoDBConnectionManager:
    return MongoDBConnectionManager(MongoDBSettings(url=SecretStr(url), **settings))


async def of(url: str, **settings: Any) -> dict[str, Any]:
    """What the driver's client and we have of it, without what every address comes to."""
    manager = manager_of(url, **settings)
    client = await manager._client()
    options = client.options
    pool = options.pool_options
    found = {
        "hosts": manager.get_connection_info()["url"],
        "database": manager.settings.database,
        "timeout": manager.settings.timeout,
        "wait": manager.settings.pool.timeout,
        "max": pool.max_pool_size,
        "min": pool.min_pool_size,
        "idle": pool.max_idle_time_seconds,
        "connect": pool.connect_timeout,
        "selection": options.server_selection_timeout,
        "app": pool.appname,
        "tls": pool._ssl_context is not None,
        "replica set": options.replica_set_name,
        "direct": options.direct_connection,
        "write": options.write_concern.document,
        "read": options.read_preference.mongos_mode,
        "compressors": pool._compression_settings.compressors if pool._compression_settings else [],
        "auth": options.pool_options._credentials and options.pool_options._credentials.mechanism,
    }
    assert (options.retry_reads, options.retry_writes, options.timeout, pool.wait_queue_timeout) == (
        False,
        False,
        *[None] * 2,
    )
    await client.close()
    usual: dict[str, Any] = {
        "database": "app",
        "timeout": 5,
        "wait": 5,
        "max": 10,
        "min": 0,
        "idle": None,
        "connect": 5,
        "selection": 5,
        "app": "manystore",
        "tls": False,
        "replica set": None,
        "direct": None,
        "write": {},
        "read": "primary",
        "compressors": [],
        "auth": None,
    }
    return {key: value for key, value in found.items() if key not in usual or usual[key] != value}


UNDERSTOOD: dict[str, dict[str, Any]] = {
    "mongodb://127.0.0.1/": {"hosts": "127.0.0.1"},
    "mongodb://ada:p%40@127.0.0.1:27017/shop?authSource=admin": {"hosts": "127.0.0.1:27017", "database": "shop"}
    | {"auth": "DEFAULT"},
    "mongodb://ada:p@127.0.0.1/admin": {"hosts": "127.0.0.1", "auth": "DEFAULT"},
    "mongodb://a.example,b.example:27018/?replicaSet=rs0&readPreference=secondaryPreferred&w=majority": {
        "hosts": "a.example,b.example:27018",
        "replica set": "rs0",
        "read": "secondaryPreferred",
        "write": {"w": "majority"},
    },
    "mongodb://127.0.0.1/?directConnection=true&maxIdleTimeMS=60000&minPoolSize=1": {
        "hosts": "127.0.0.1",
        "direct": True,
        "idle": 60,
        "min": 1,
    },
    "mongodb://127.0.0.1/?maxPoolSize=50&waitQueueTimeoutMS=2000&timeoutMS=9000": {
        "hosts": "127.0.0.1",
        "max": 50,
        "wait": 2,
        "timeout": 9,
        "connect": 9,
        "selection": 9,
    },
    "mongodb://127.0.0.1/?connectTimeoutMS=3000&serverSelectionTimeoutMS=2500&socketTimeoutMS=4000": {
        "hosts": "127.0.0.1",
        "connect": 3,
        "selection": 2.5,
        "timeout": 4,
    },
    "mongodb://127.0.0.1/?compressors=zlib&journal=true&wtimeoutMS=900&appName=shop": {
        "hosts": "127.0.0.1",
        "compressors": ["zlib"],
        "app": "shop",
        "write": {"j": True, "wtimeout": 900},
    },
    "mongodb://127.0.0.1/?tz_aware=true&uuidRepresentation=standard&retryReads=false": {"hosts": "127.0.0.1"},
    f"mongodb://shop:key%3D%3D@{AZURE}/?ssl=true&replicaSet=globaldb&retrywrites=false&appName=@shop@": {
        "hosts": AZURE,
        "tls": True,
        "replica set": "globaldb",
        "app": "@shop@",
        "auth": "DEFAULT",
    },
    "mongodb://%2Ftmp%2Fmongodb-27017.sock/shop": {"hosts": "%2Ftmp%2Fmongodb-27017.sock", "database": "shop"},
}

REFUSED = {
    "mongodb://127.0.0.1/?retryWrite=true": r"'retrywrite'.*did you mean 'retrywrites'",
    "mongodb://127.0.0.1/?unheardOf=": r"'unheardof', which the MongoDB driver does not know",
    "mongodb://127.0.0.1/?waitQueueMultiple=3": r"'waitqueuemultiple', which the MongoDB driver does not know",
    "mongodb://127.0.0.1/?retryWrites=often": r"'retryWrites' .* true or false",
    "mongodb://127.0.0.1/?readPreference=nearby": r"'readpreference' of its url has no value",
    "mongodb://127.0.0.1/?w=0": r"'w' of its url can only be 1 or more.*no result",
    "mongodb://127.0.0.1/?maxPoolSize=0": r"'maxPoolSize' of its url can only be a whole number greater",
    "mongodb://127.0.0.1/?timeoutMS=1000&socketTimeoutMS=2000": r"'socketTimeoutMS'.*stands for `timeout`",
    "mongodb://127.0.0.1/?connectTimeoutMS=30000": r"'connecttimeoutms' of its url is longer than `timeout`",
    "mongodb://127.0.0.1/?tz_aware=false": r"'tz_aware' of its url can only be true",
    "mongodb://127.0.0.1/?uuidRepresentation=pythonLegacy": r"'uuidRepresentation' of its url can only be standard",
    "mongodb://127.0.0.1/?compressors=snappy,zlib": r"'compressors'.*not installed",
    "mongodb://127.0.0.1/?appName=a&appName=b": r"'appName' twice",
    "mongodb://127.0.0.1/?tlsCAFile=/no/such": r"'tlscafile' of its url names a file that cannot be read",
    "mongodb://127.0.0.1/?tls=true&ssl=false": r"is not one that the MongoDB driver understands",
    "mongodb+srv://a.example,b.example/": r"is not one that the MongoDB driver understands",
    "mongodb://127.0.0.1/?tls": r"is not one that the MongoDB driver understands",
}


@pytest.mark.filterwarnings("ignore:You appear to be connected to a CosmosDB")
@pytest.mark.parametrize("url", UNDERSTOOD)
async def test_what_an_address_comes_to(url: str) -> None:
    assert await of(url) == UNDERSTOOD[url]


@pytest.mark.parametrize("url", REFUSED)
async def test_what_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[url]):
        await manager_of(url)._client()


async def test_atlas_asks_the_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver does, when it connects; so here it is only seen that the address reaches it as it is."""
    seen: dict[str, Any] = {}

    class Client:
        def __init__(self, url: str, **options: Any) -> None:
            seen.update(options, url=url)

    monkeypatch.setattr("pymongo.AsyncMongoClient", Client)
    url = f"mongodb+srv://ada:p@{ATLAS}/?retryWrites=true&w=majority&appName=Cluster0&maxPoolSize=20&srvMaxHosts=2"
    manager = manager_of(url)
    await manager._client()
    assert manager.get_connection_info()["url"] == ATLAS
    assert seen["url"] == f"mongodb+srv://ada:p@{ATLAS}/?w=majority&appName=Cluster0&srvMaxHosts=2"
    assert (seen["maxPoolSize"], "appname" in seen, seen["retryWrites"]) == (20, False, False)


@pytest.mark.parametrize(
    ("option", "settings", "name"),
    [
        ("maxPoolSize=5", {"pool": PoolSettings(max_size=6)}, "pool.max_size"),
        ("waitQueueTimeoutMS=500", {"pool": PoolSettings(timeout=6)}, "pool.timeout"),
        ("timeoutMS=500", {"timeout": 6}, "timeout"),
    ],
)
async def test_what_address_and_settings_say_differently_is_refused(option: str, settings: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        manager_of(f"mongodb://127.0.0.1/?{option}", **settings)


async def test_the_settings_name_the_database_and_the_address_that_of_the_user() -> None:
    assert await of("mongodb://ada:p@127.0.0.1/people", database="shop") == {
        "hosts": "127.0.0.1",
        "database": "shop",
        "auth": "DEFAULT",
    }


@pytest.mark.parametrize("option", ["unheardOf=hunter2", "w=0&x=hunter2", "retryWrites=hunter2", "tlsCAFile=hunter2"])
async def test_a_refusal_shows_no_value(option: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await manager_of(f"mongodb://ada:p@127.0.0.1/?{option}")._client()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        manager_of("mongodb://ada:x?hunter=y@127.0.0.1/")  # a password that was not encoded
    assert "hunter" not in str(caught.value)
