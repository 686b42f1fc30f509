"""SQLAlchemy's declarative style on the connections of the data layer."""

from .base import Base, table_name
from .mixins import AuditMixin, SoftDeleteMixin, TimestampMixin, UUIDMixin, VersioningMixin
from .models import FullModel, TimestampedModel
from .types import GUID, Document, ExactDecimal, UTCDateTime

__all__ = [
    "GUID",
    "AuditMixin",
    "Base",
    "Document",
    "ExactDecimal",
    "FullModel",
    "SoftDeleteMixin",
    "TimestampMixin",
    "TimestampedModel",
    "UTCDateTime",
    "UUIDMixin",
    "VersioningMixin",
    "table_name",
]
