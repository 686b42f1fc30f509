"""Bases with several mixins together."""

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base
from .mixins import AuditMixin, SoftDeleteMixin, TimestampMixin, UUIDMixin


class TimestampedModel(TimestampMixin, Base):
    """A number that the database gives as primary key, and timestamps. For another key derive from both yourself."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, sort_order=-100
    )


class FullModel(UUIDMixin, TimestampMixin, SoftDeleteMixin, AuditMixin, Base):
    """A UUID as primary key, timestamps, soft deletion, and who created and changed it."""

    __abstract__ = True
