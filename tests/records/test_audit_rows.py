"""What the audit log shows of a record, and what it makes of writes that were never completed in it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr
from typing_extensions import TypedDict

from app.core.actor import acting_as, current_actor
from app.db.middleware._audit_outcome import Outcome, outcome_of
from app.db.middleware._audit_rows import Action, AuditRow, AuditRows, Stage, same, secret_fields
from app.db.models.user import UserInDB
from app.testing.models import Account, Product


class Key(BaseModel):
    value: SecretStr


@dataclass
class Card:
    number: SecretStr


class Login(TypedDict):
    password: str


class Pair(NamedTuple):
    first: int
    second: SecretStr


class Tree(BaseModel):
    children: list["Tree"] = Field(default_factory=list)
    label: Secret[str] | None = None


class Vault(BaseModel):
    plain: str = ""
    plain_model: Product | None = None
    shown: Annotated[dict[str, int], Field(description="no secret")] = {}
    text: SecretStr | None = None
    raw: Annotated[SecretBytes, Field()] = SecretBytes(b"")
    wrapped: Secret[int] | None = None
    listed: list[Key] = Field(default_factory=list)
    again: dict[str, Key] = Field(default_factory=dict)
    card: Card | None = None
    login: Login | None = None
    tree: Tree | None = None
    pair: Pair | None = None
    declared: str = Field("", json_schema_extra={"secret": True})
    unshown: str = Field("", repr=False)
    password: str = ""


def test_which_fields_are_secret() -> None:
    assert set(Vault.model_fields) - secret_fields(Vault) == {"plain", "plain_model", "shown"}
    assert secret_fields(Tree) == {"children", "label"}
    assert secret_fields(UserInDB) == {"password_hash"}
    assert secret_fields(Product) == set()


def test_values_are_compared_as_stores_do() -> None:
    assert same(1, 1.0)
    assert not same(1, True)
    assert not same({"a": [1]}, {"a": [True]})
    assert not same([0], [False])
    assert not same([1], [1, 2])
    assert not same({"a": None}, {})
    assert same({"a": [{"b": None}]}, {"a": [{"b": None}]})


def test_only_what_changed_is_kept() -> None:
    rows = AuditRows(Account)
    row = rows.make(
        "1", {"id": "1", "balance": 1, "token": "a"}, {"id": "1", "balance": True, "token": "b"}, Stage.DONE
    )
    assert (row["before"], row["after"]) == ({"balance": 1, "token": "***"}, {"balance": True, "token": "***"})
    unmarked = AuditRows(Product).make("1", {"deleted_at": None}, {"deleted_at": datetime.now(UTC)}, Stage.DONE)
    assert unmarked["action"] == "UPDATE"


def test_the_actor_is_that_of_the_innermost_block() -> None:
    with acting_as("alice"):
        with acting_as("bob"):
            assert current_actor() == "bob"
        with pytest.raises(KeyError), acting_as("carol"):
            raise KeyError
        assert current_actor() == "alice"
    assert current_actor() is None


def row(before: dict[str, Any], after: dict[str, Any], stage: Stage = Stage.INTENT) -> AuditRow:
    action = Action.CREATE if not before else Action.UPDATE if after else Action.DELETE
    return AuditRow(
        id="1", at=datetime.now(UTC), actor=None, action=action, record="1", stage=stage, before=before, after=after
    )


CREATION = row({}, {"version": 1, "x": 1})
CHANGE = row({"version": 1, "x": 1}, {"version": 2, "x": 2})
REMOVAL = row({"version": 2, "x": 2}, {})
DONE_CREATION, DONE_CHANGE, DONE_REMOVAL = (
    each.model_copy(update={"stage": Stage.DONE, "id": "2"}) for each in (CREATION, CHANGE, REMOVAL)
)
HIDDEN = row({"p": "***"}, {"p": "***"})


@pytest.mark.parametrize(
    ("intent", "current", "others", "outcome"),
    [
        (CREATION, None, [], Outcome.NOT_APPLIED),
        (CREATION, {"version": 1, "x": 1}, [], Outcome.APPLIED),
        (CREATION, {"version": 5, "x": 9}, [DONE_CHANGE], Outcome.APPLIED),
        (CREATION, {"version": 1, "x": 1}, [DONE_CREATION], Outcome.NOT_APPLIED),
        (CREATION, {"version": 1, "x": 9}, [], Outcome.UNKNOWN),
        (CREATION, None, [DONE_REMOVAL], Outcome.UNKNOWN),
        (CHANGE, {"version": 1, "x": 1}, [DONE_CREATION], Outcome.NOT_APPLIED),
        (CHANGE, {"version": 2, "x": 2}, [DONE_CREATION], Outcome.APPLIED),
        (CHANGE, {"version": 3, "x": 9}, [], Outcome.APPLIED),
        (CHANGE, {"version": 2, "x": 2}, [DONE_CHANGE], Outcome.NOT_APPLIED),
        (CHANGE, {"version": 2, "x": 3}, [CHANGE], Outcome.UNKNOWN),
        (CHANGE, {"version": 3, "x": 2}, [CHANGE], Outcome.UNKNOWN),
        (CHANGE, None, [], Outcome.UNKNOWN),
        (REMOVAL, None, [], Outcome.APPLIED),
        (REMOVAL, None, [DONE_REMOVAL], Outcome.UNKNOWN),
        (REMOVAL, {"version": 2, "x": 2}, [DONE_CREATION], Outcome.UNKNOWN),
        (REMOVAL, {"version": 2, "x": 2}, [], Outcome.NOT_APPLIED),
        (DONE_CHANGE, None, [], Outcome.APPLIED),
    ],
)
def test_the_record_tells_what_became_of_an_intent(
    intent: AuditRow, current: dict[str, Any] | None, others: list[AuditRow], outcome: Outcome
) -> None:
    assert outcome_of(intent, current, others, "version") is outcome


@pytest.mark.parametrize(
    ("intent", "current", "outcome"),
    [
        (CHANGE, {"version": 2, "x": 2}, Outcome.APPLIED),
        (CHANGE, {"version": 1, "x": 1}, Outcome.NOT_APPLIED),
        (CHANGE, {"version": 2, "x": 1}, Outcome.UNKNOWN),
        (HIDDEN, {"p": "anything"}, Outcome.UNKNOWN),
        (row({"p": "***", "x": 1}, {"p": "***", "x": 2}), {"p": "a", "x": 2}, Outcome.APPLIED),
    ],
)
def test_without_versions_the_values_tell(intent: AuditRow, current: dict[str, Any], outcome: Outcome) -> None:
    assert outcome_of(intent, current, [], None) is outcome
