"""A transaction of MongoDB: a session, which the operations name."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from ...connections.base import ConnectionManager
from ...core.errors import (
    AppError,
    OutcomeUnknownError,
    StoreUnavailableError,
    TransactionError,
    UnsupportedOperationError,
)
from ._mongodb_errors import clean, in_transaction
from .base import Transaction

R = TypeVar("R")

_ATTEMPTS = 5
_WITH_TRANSACTIONS = frozenset({"RSPrimary", "RSSecondary", "RSOther", "Mongos", "LoadBalancer"})


def has_transactions(manager: Any, client: AsyncMongoClient[Any]) -> bool:
    """Whether the deployment is a replica set or a sharded cluster, as far as the driver has seen it."""
    servers = manager.topology(client).server_descriptions().values()
    return any(server.server_type_name in _WITH_TRANSACTIONS for server in servers)


class MongoDBTransaction(Transaction):
    """Begun on the server by its first operation. It has no savepoints: any error of the server ends it."""

    def __init__(self, manager: Any, session: AsyncClientSession) -> None:
        self._manager = manager
        self._session: AsyncClientSession | None = session

    @classmethod
    async def begin(cls, manager: ConnectionManager[Any]) -> "MongoDBTransaction":
        client = manager.live or await manager.connect()
        if not has_transactions(manager, client):
            raise UnsupportedOperationError(
                f"{manager.name} is a single MongoDB server, which has no transactions: start it as a replica set of "
                "one (mongod --replSet rs0, then rs.initiate())"
            )
        session = client.start_session()
        await session.start_transaction(
            read_concern=ReadConcern("snapshot"),
            write_concern=WriteConcern("majority"),
            read_preference=ReadPreference.PRIMARY,  # the only one that it may have, whatever the address says
        )
        return cls(manager, session)

    @property
    def session(self) -> AsyncClientSession:
        if self._session is None:
            raise TransactionError("this transaction has ended")
        return self._session

    async def commit(self) -> None:
        session = self.session
        failure: AppError | None = None
        cause: Exception | None = None
        try:
            await self._manager.write(lambda _: _commit(session))
        except PyMongoError as error:
            failure = in_transaction(error) or TransactionError(
                "the transaction could not be committed, and nothing of it was stored: an error within it had ended it"
            )
            cause = clean(error)
        finally:
            self._session = None
            await session.end_session()
        if failure is not None:
            raise failure from cause

    async def rollback(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.end_session()  # aborts what is open, and keeps quiet where the server is gone


async def _commit(session: AsyncClientSession) -> None:
    failure: AppError
    try:
        await session.commit_transaction()
    except PyMongoError as error:
        if not error.has_error_label("UnknownTransactionCommitResult"):
            raise
        failure = OutcomeUnknownError(
            "the answer to a commit was lost: the transaction may or may not have been applied"
        )
        failure.__cause__ = clean(error)
    else:
        return
    raise failure from failure.__cause__


async def atomically(manager: ConnectionManager[Any], work: Callable[[AsyncClientSession], Awaitable[R]]) -> R:
    """Run it in a transaction of its own, again where that met another one. What was not committed did not happen."""
    attempt = 0
    while True:
        attempt += 1
        transaction = await MongoDBTransaction.begin(manager)
        try:
            try:
                result = await work(transaction.session)
            except OutcomeUnknownError as error:
                raise StoreUnavailableError(
                    f"{manager.name}: no answer came back, and as this was not committed, nothing of it was stored"
                ) from error
            await transaction.commit()
        except TransactionError:
            await transaction.rollback()
            if attempt == _ATTEMPTS:
                raise
        except BaseException:
            await transaction.rollback()
            raise
        else:
            return result
