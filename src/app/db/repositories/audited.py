"""The specification's name for a repository whose writes are audited."""

from typing import ClassVar, TypeVar

from .base import Repository

EntityT = TypeVar("EntityT")


class AuditedRepository(Repository[EntityT]):
    """Keeps an audit log: `class Orders(AuditedRepository[Order])`, and `await orders.audit_log()`."""

    audited: ClassVar[bool] = True
