"""The user of an application, as the specification has it."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from .base import PyObjectId, SoftDeletable, Timestamped, new_object_id
from .values import utc_now

_USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,29}", re.ASCII)
_NAME_PUNCTUATION = frozenset(" -'\N{RIGHT SINGLE QUOTATION MARK}")
# $2a$/$2b$/$2y$ of bcrypt, $argon2i/d/id$ of argon2.
_PASSWORD_HASH = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}|\$argon2(?:i|d|id)\$\S+", re.ASCII)


def normalize_email(value: str) -> str:
    """The one spelling of an address: NFKC (the KELVIN SIGN is a k), stripped, lower case. Does not validate."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).strip().lower())


def normalize_username(value: str) -> str:
    return value.lower()


def _email(value: str) -> str:
    try:
        return normalize_email(validate_email(normalize_email(value), check_deliverability=False).normalized)
    except EmailNotValidError:
        # Its messages quote parts of the address.
        raise ValueError("not an e-mail address") from None


def _username(value: str) -> str:
    if not _USERNAME.fullmatch(value):
        raise ValueError("a username is 3 to 30 letters, digits and underscores (ASCII) and begins with a letter")
    return normalize_username(value)


def _person_name(value: str) -> str:
    value = unicodedata.normalize("NFC", value).strip()
    # Twice: the first capital of a few letters is two characters, and what is stored must read back as itself.
    name = unicodedata.normalize("NFC", value.capitalize().capitalize())
    if not 2 <= len(name) <= 50 or len(value) < 2:  # noqa: PLR2004 - the specification's limits
        raise ValueError("a name has 2 to 50 characters")
    for character in name:
        # Marks belong to the letter before them where Unicode has no single character for both.
        if unicodedata.category(character)[0] not in "LM" and character not in _NAME_PUNCTUATION:
            raise ValueError("a name has letters, spaces, hyphens and apostrophes")
    if not any(character.isalpha() for character in name):
        raise ValueError("a name needs at least one letter")
    return name


def _password_hash(value: str) -> str:
    if not value.strip():
        raise ValueError("a password hash may not be empty")
    return value


def _assume_utc(value: Any) -> Any:
    """Old documents and the specification's samples have naive datetimes, which were always UTC."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _to_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


UTCDatetime = Annotated[datetime, BeforeValidator(_assume_utc), AfterValidator(_to_utc)]


class User(Timestamped, SoftDeletable):
    """A user before it has an id. Every value is normalised when it is set, so two spellings of an address are one."""

    model_config = ConfigDict(validate_assignment=True, hide_input_in_errors=True)

    email: Annotated[str, AfterValidator(_email)]
    username: Annotated[str, AfterValidator(_username)]
    firstname: Annotated[str, AfterValidator(_person_name)]
    lastname: Annotated[str, AfterValidator(_person_name)]
    password_hash: Annotated[str, AfterValidator(_password_hash)] = Field(repr=False)
    is_active: bool = True
    created_at: UTCDatetime = Field(default_factory=utc_now)
    updated_at: UTCDatetime = Field(default_factory=utc_now)
    deleted_at: UTCDatetime | None = None

    strict: ClassVar[bool] = False
    """Set on a subclass to ask that every password hash looks like bcrypt or argon2."""

    @field_validator("password_hash")
    @classmethod
    def _check_hash_format(cls, value: str) -> str:
        if cls.strict and not _PASSWORD_HASH.fullmatch(value):
            raise ValueError("neither a bcrypt nor an argon2 hash")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _keep_values_out_of_errors(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # `errors()` and `json()` have the input, which for a missing field is all of it, the hash included.
        try:
            return handler(data)
        except ValidationError as error:
            details = [
                InitErrorDetails(type=PydanticCustomError(each["type"], each["msg"]), loc=each["loc"], input=None)
                for each in error.errors(include_input=False, include_url=False, include_context=False)
            ]
            raise ValidationError.from_exception_data(error.title, details, hide_input=True) from None

    def to_dict(self) -> dict[str, Any]:
        """The storage form, with the password hash in it."""
        return self.model_dump()


class UserInDB(User):
    """A stored user. Nothing here but attribute access gives the password hash."""

    model_config = ConfigDict(populate_by_name=True)

    id: PyObjectId = Field(default_factory=new_object_id, alias="_id")

    @property
    def _id(self) -> str:
        # pydantic refuses `_id` as a field name; applications of the specification read it.
        return self.id

    def to_dict(self) -> dict[str, Any]:
        """For responses: `_id` and all fields but the password hash."""
        return self.model_dump(by_alias=True, exclude={"password_hash"})

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude={"password_hash"})

    def to_safe_dict(self) -> dict[str, Any]:
        return self.to_dict()

    def to_public_dict(self) -> dict[str, Any]:
        return self.to_dict()
