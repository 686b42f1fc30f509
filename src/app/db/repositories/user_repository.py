"""Users by e-mail, username and id, as the specification has them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ...core.errors import DuplicateRecordError
from ...core.utils.logger import get_logger
from ..backends.base import Index
from ..models.base import is_object_id
from ..models.user import UserInDB, normalize_email, normalize_username
from .base import Repository
from .registry import RepositoryRegistry

logger = get_logger(__name__)

_FORBIDDEN = frozenset({"email", "username", "password_hash", "_id", "id", "created_at"})


@RepositoryRegistry.register("user", connections=("mongodb", "postgres", "sqlite"))
class UserRepository(Repository[UserInDB]):
    """The unique indexes decide who has an e-mail or a username, so no check before a write is needed.

    A deleted user is absent from every method, and its e-mail and username are free.
    """

    COLLECTION_NAME = "users"
    indexes = (Index("email", unique=True, name="email_unique"), Index("username", unique=True, name="username_unique"))

    async def create_user(
        self, email: str, username: str, firstname: str, lastname: str, password_hash: str
    ) -> UserInDB | None:
        """Store a new user; None when the e-mail or the username is taken. Invalid values raise ValueError."""
        user = UserInDB(
            email=email, username=username, firstname=firstname, lastname=lastname, password_hash=password_hash
        )
        try:
            created = await self.create(user)
        except DuplicateRecordError as error:
            logger.info("no user was created: %s is taken", error.field)
            return None
        logger.info("created the user %s", created.id)
        return created

    async def get_user_by_email(self, email: str) -> UserInDB | None:
        return await self.find_one({"email": normalize_email(email)})

    async def get_user_by_username(self, username: str) -> UserInDB | None:
        return await self.find_one({"username": normalize_username(username)})

    async def get_user_by_id(self, user_id: str) -> UserInDB | None:
        """Unlike `get`, this raises ValueError for what is no ObjectId."""
        return await self.get(_object_id(user_id))

    async def update_user(
        self,
        user_id: str,
        update_data: Mapping[str, Any] | BaseModel | None = None,
        *,
        update_fields: Mapping[str, Any] | BaseModel | None = None,
    ) -> UserInDB | None:
        """Change what may change of a user; the user after it, or None when there is none."""
        if (update_data is None) == (update_fields is None):
            raise TypeError("update_user takes the changes once, as update_data or as update_fields")
        changes = update_data if update_data is not None else update_fields or {}
        if isinstance(changes, BaseModel):
            changes = changes.model_dump(include=changes.model_fields_set)
        forbidden = sorted(_FORBIDDEN & changes.keys())
        if forbidden:
            raise ValueError(f"Cannot update forbidden fields: {', '.join(forbidden)}")
        updated = await self.update(_object_id(user_id), changes)
        if updated is not None:
            logger.info("updated the user %s", updated.id)
        return updated

    async def deactivate_user(self, user_id: str) -> bool:
        return await self.update_user(user_id, {"is_active": False}) is not None

    async def delete_user(self, user_id: str, soft: bool = True) -> bool:
        """Delete a user; whether there was one. `soft=False` leaves nothing of it."""
        deleted = await self.delete(_object_id(user_id), hard=not soft)
        if deleted:
            logger.info("deleted the user %s", user_id)
        return deleted

    async def check_email_exists(self, email: str) -> bool:
        return await self.exists({"email": normalize_email(email)})

    async def check_username_exists(self, username: str) -> bool:
        return await self.exists({"username": normalize_username(username)})

    async def user_exists(self, email: str | None = None, username: str | None = None) -> dict[str, bool]:
        """Whether each is taken; False for one that is not given."""
        return {
            "email_exists": email is not None and await self.check_email_exists(email),
            "username_exists": username is not None and await self.check_username_exists(username),
        }


def _object_id(value: object) -> str:
    text = value.lower() if isinstance(value, str) else value
    if not is_object_id(text):
        raise ValueError("Invalid ObjectId")
    return str(text)
