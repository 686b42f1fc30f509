"""The contract of a storage backend as test classes: derive one, give it `open_place`, and every test runs on it."""

from .aggregates import AggregateContract
from .attribution import AttributionContract
from .audit import AuditContract
from .base import Contract, OpenPlace, Place
from .caching import CachingContract
from .changes import ChangeContract
from .history import HistoryContract
from .lifecycles import SoftDeleteContract, VersionContract
from .pages import PageContract, StreamContract
from .queries import QueryContract
from .records import RecordContract
from .transactions import TransactionContract
from .upserts import UpsertContract

__all__ = [
    "AggregateContract",
    "AttributionContract",
    "AuditContract",
    "CachingContract",
    "ChangeContract",
    "Contract",
    "HistoryContract",
    "OpenPlace",
    "PageContract",
    "Place",
    "QueryContract",
    "RecordContract",
    "SoftDeleteContract",
    "StreamContract",
    "TransactionContract",
    "UpsertContract",
    "VersionContract",
]
