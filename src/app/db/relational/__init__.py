"""SQLAlchemy's declarative style on the connections of the data layer: models, engines and sessions."""

from . import audit, history, soft_delete  # noqa: F401 - what they do, they do to every session
from .base import Base, table_name
from .current import CurrentAsyncEngine, CurrentEngine
from .mixins import AuditMixin, SoftDeleteMixin, TimestampMixin, UUIDMixin, VersioningMixin
from .models import FullModel, TimestampedModel
from .session import AsyncSession, Session, get_db, transaction
from .tables import create_all, drop_all
from .types import GUID, Document, ExactDecimal, UTCDateTime

engine = CurrentEngine()
async_engine = CurrentAsyncEngine()

__all__ = [
    "GUID",
    "AsyncSession",
    "AuditMixin",
    "Base",
    "Document",
    "ExactDecimal",
    "FullModel",
    "Session",
    "SoftDeleteMixin",
    "TimestampMixin",
    "TimestampedModel",
    "UTCDateTime",
    "UUIDMixin",
    "VersioningMixin",
    "async_engine",
    "create_all",
    "drop_all",
    "engine",
    "get_db",
    "table_name",
    "transaction",
]
