import inspect
import pickle

import pytest

from app.core import errors
from app.db.relational.errors import CommitUnknownError, DatabaseUnavailableError, DuplicateRowError, StaleRowError

BUILT_IN = {
    "ConfigurationError": (ValueError,),
    "NotRegisteredError": (LookupError, ValueError),
    "MissingDependencyError": (ImportError,),
    "StoreUnavailableError": (ConnectionError,),
    "DeadlineExceededError": (TimeoutError,),
    "RecordNotFoundError": (LookupError,),
    "InvalidFilterError": (ValueError,),
    "InvalidChangeError": (ValueError,),
}


def test_every_error_has_one_base() -> None:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]
    assert len(classes) > 15
    assert [each for each in classes if not issubclass(each, errors.AppError)] == []


@pytest.mark.parametrize(("name", "bases"), BUILT_IN.items())
def test_an_error_is_also_the_built_in_one(name: str, bases: tuple[type[Exception], ...]) -> None:
    assert issubclass(getattr(errors, name), bases[0])
    assert issubclass(getattr(errors, name), bases[-1])


def test_a_missing_package_names_the_extra() -> None:
    error = errors.MissingDependencyError.for_extra("pymongo", "mongodb")
    assert str(error) == "the package 'pymongo' is not installed: pip install 'manystore[mongodb]'"


def test_a_duplicate_names_its_fields() -> None:
    error = errors.DuplicateRecordError("users", ["email"])
    assert (error.field, error.fields, str(error)) == ("email", ("email",), "users: another record has the same email")
    assert errors.DuplicateRecordError("users", []).field == ""


def test_a_far_name_gets_no_suggestion() -> None:
    assert errors.did_you_mean("emial", ["email", "name"]) == " (did you mean 'email'?)"
    assert errors.did_you_mean("zzz", ["email", "name"]) == ""


@pytest.mark.parametrize(
    "error",
    [
        errors.DuplicateRecordError("users", ["email"]),
        errors.StaleRecordError("users", 7, 1, 2),
        errors.MissingDependencyError.for_extra("pymongo", "mongodb"),
        errors.DeadlineExceededError("late"),
        DuplicateRowError("users", ["email"]),
        CommitUnknownError("lost"),
        StaleRowError("users", 7, 1, 2),
        DatabaseUnavailableError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_from_another_process(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert vars(again) == vars(error)
