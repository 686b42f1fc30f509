"""What a user may be called, and that the password hash shows nowhere."""

import string
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from app.db.models.user import User, UserInDB

HASH = "$2b$12$planted-secret-hash"
VALID = {
    "email": "john@example.com",
    "username": "johndoe",
    "firstname": "John",
    "lastname": "Doe",
    "password_hash": HASH,
}


def user(**values: object) -> User:
    return User.model_validate({**VALID, **values})


def stored(**values: object) -> UserInDB:
    return UserInDB.model_validate({**VALID, **values})


@pytest.mark.parametrize(
    "spelling",
    [
        "quack@x.io",
        "QUACK@x.io",
        "quac\N{KELVIN SIGN}@x.io",
        "  Quack@X.IO\n",
        "\N{FULLWIDTH LATIN SMALL LETTER Q}uack@x.io",
    ],
)
def test_spellings_of_an_address_are_one(spelling: str) -> None:
    assert user(email=spelling).email == "quack@x.io"


@pytest.mark.parametrize(
    "address", ["", "john", "john@", "@x.io", "a b@x.io", "john@x..io", "x@y", "j@x.io\0", "a@b@c.io"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        user(email=address)


@pytest.mark.parametrize("name", ["johndoe", "JohnDoe", "j_9", "a" * 30, "A23"])
def test_usernames_are_stored_in_lower_case(name: str) -> None:
    assert user(username=name).username == name.lower()


@pytest.mark.parametrize(
    "name",
    [
        *("john\n", " johndoe ", "john.doe", "123john", "_john", "jo", "", "a" * 31, "jöhn", "john doe", "john-doe"),
        *("\N{KELVIN SIGN}ate", "john\0", "ｊｏｈｎ", "joh\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_other_usernames_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        user(username=name)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("john", "John"),
        ("  JOHN  ", "John"),
        ("José", "José"),
        ("Jose\N{COMBINING ACUTE ACCENT}", "José"),
        ("jean-pierre", "Jean-pierre"),
        ("o'brien", "O'brien"),
        ("o\N{RIGHT SINGLE QUOTATION MARK}brien", "O\N{RIGHT SINGLE QUOTATION MARK}brien"),
        ("mary ann", "Mary ann"),
        ("李明", "李明"),
        ("ab", "Ab"),
        ("a" * 50, "A" + "a" * 49),
    ],
)
def test_names_are_stripped_and_capitalised(given_name: str, kept: str) -> None:
    assert user(firstname=given_name).firstname == kept
    assert user(lastname=given_name).lastname == kept


@pytest.mark.parametrize(
    "name",
    ["", "a", " a ", "a" * 51, "--", "' '", "john3", "a\tb", "a\nb", "a_b", "a.b", "a\N{NO-BREAK SPACE}b", "jo\0"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        user(firstname=name)


letters = st.characters(categories=["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc"])


@given(st.text(st.one_of(letters, st.sampled_from(" -'\N{RIGHT SINGLE QUOTATION MARK}")), min_size=1, max_size=52))
def test_a_name_that_validates_once_reads_back_as_itself(name: str) -> None:
    try:
        once = user(firstname=name).firstname
    except ValidationError:
        reject()
    assert user(firstname=once).firstname == once
    assert once == once.strip()
    assert 2 <= len(once) <= 50
    assert unicodedata.is_normalized("NFC", once)


@given(
    st.text(
        st.one_of(letters, st.sampled_from(string.ascii_letters + string.digits + "._+-")), min_size=1, max_size=20
    ),
    st.text(st.one_of(letters, st.sampled_from(string.ascii_letters + string.digits)), min_size=1, max_size=12),
)
def test_an_address_that_validates_once_reads_back_as_itself(local: str, domain: str) -> None:
    try:
        once = user(email=f"{local}@{domain}.io").email
    except ValidationError:
        reject()
    assert user(email=once).email == once


@pytest.mark.parametrize("value", ["", "   ", None, 5])
def test_an_empty_hash_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        user(password_hash=value)


class StrictUser(User):
    strict = True


@pytest.mark.parametrize(
    "value", ["$2b$12$" + "a" * 53, "$2y$04$" + "./A9" * 13 + "z", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"]
)
def test_the_strict_check_knows_bcrypt_and_argon2(value: str) -> None:
    assert StrictUser.model_validate({**VALID, "password_hash": value}).password_hash == value


@pytest.mark.parametrize(
    "value", [HASH, "$2b$12$" + "a" * 52, "$2b$12$" + "a" * 54, "$2b$12$" + "a" * 53 + "\n", "$argon2id$", "plain"]
)
def test_the_strict_check_is_opt_in(value: str) -> None:
    assert user(password_hash=value).password_hash == value
    with pytest.raises(ValidationError) as caught:
        StrictUser.model_validate({**VALID, "password_hash": value})
    assert value not in str(caught.value)
    assert value not in repr(caught.value.errors())


def test_the_hash_shows_nowhere_but_in_the_storage_form() -> None:
    assert user().to_dict()["password_hash"] == HASH
    for each in (user(), stored()):
        assert HASH not in repr(each)
        assert HASH not in str(each)
        assert HASH not in f"{each}"
    outside = stored()
    for shown in (outside.to_dict(), outside.to_safe_dict(), outside.to_public_dict()):
        assert "password_hash" not in shown
        assert HASH not in repr(shown)
    assert "password_hash" not in outside.to_json()
    assert HASH not in outside.to_json()
    assert outside.password_hash == HASH


@pytest.mark.parametrize("broken", [{"email": "no"}, {"username": None}, {"firstname": "3"}, {"created_at": "never"}])
@pytest.mark.parametrize("model", [User, UserInDB])
def test_the_hash_is_in_no_error(model: type[User], broken: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({**VALID, **broken})
    missing = {name: value for name, value in VALID.items() if name != "username"}
    with pytest.raises(ValidationError) as caught_missing:
        model.model_validate(missing)
    for error in (caught.value, caught_missing.value):
        for text in (str(error), repr(error), repr(error.errors()), error.json()):
            assert HASH not in text


def test_an_error_names_the_field_and_not_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        user(email="jane.doe@@example.com")
    assert "jane" not in str(caught.value)
    assert caught.value.errors()[0]["loc"] == ("email",)


def test_assignment_is_validated() -> None:
    someone = user()
    someone.email = "JANE@X.IO"
    assert someone.email == "jane@x.io"
    with pytest.raises(ValidationError) as caught:
        someone.username = "4you"
    assert HASH not in repr(caught.value.errors())
    assert someone.username == "johndoe"


def test_datetimes_are_aware_utc() -> None:
    naive = datetime(2026, 1, 10, 12, 0, 0)  # noqa: DTZ001 - what old documents have
    elsewhere = datetime(2026, 1, 10, 14, 0, 0, tzinfo=timezone(timedelta(hours=2)))
    for value in (naive, elsewhere, "2026-01-10T12:00:00", "2026-01-10T12:00:00Z"):
        assert user(created_at=value).created_at == datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert user(created_at=elsewhere).created_at.tzinfo is UTC
    assert user().updated_at.tzinfo is UTC


def test_the_id_has_two_spellings() -> None:
    identifier = "507f1f77bcf86cd799439011"
    for each in (UserInDB(_id=identifier, **VALID), UserInDB(id=identifier, **VALID)):
        assert each.id == identifier
        assert each._id == identifier
        assert each.model_dump(by_alias=True)["_id"] == identifier
        assert each.model_dump()["id"] == identifier
        assert each.to_dict()["_id"] == identifier
    assert len(stored().id) == 24
