"""A MongoDB address: what of it is for the driver, and what is a setting of ours. No message repeats a value of it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

from ..core.errors import ConfigurationError, did_you_mean
from ._url_options import OptionError, add, boolean, number

# Options that say nothing to us, and why.
IGNORED: Final[Mapping[str, str]] = {
    "retrywrites": "no write is sent twice: one whose answer is lost is an OutcomeUnknownError",
    "retryreads": "a read whose connection had died is sent once more by us",
}
_SETTINGS: Final[Mapping[str, str]] = {
    "timeoutms": "timeout",
    "sockettimeoutms": "timeout",
    "maxpoolsize": "pool.max_size",
    "waitqueuetimeoutms": "pool.timeout",
}
_WITHIN = ("connecttimeoutms", "serverselectiontimeoutms")
"""What may be shorter than `timeout`, which ends everything."""
_FIXED: Final[Mapping[str, str]] = {
    "tz_aware": "true",
    "uuidrepresentation": "standard",
    "datetime_conversion": "datetime",
    "unicode_decode_error_handler": "strict",
}
"""How values are read, which the records rely on."""
_GONE: Final = frozenset({"waitqueuemultiple"})
"""What the driver still lists, and does nothing with."""

_HOST = r"(?:[A-Za-z0-9._%-]+|\[[0-9A-Fa-f:.%]+\])(?::\d{1,5})?"
_URL = re.compile(
    rf"mongodb(?P<srv>\+srv)?://(?:[^@/?#]*@)?(?P<hosts>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^@?]*))?"
    # Azure writes the name of the account between two @.
    r"(?:\?(?P<options>[^@]*(?:appname=@[\w-]+@[^@]*)?))?",
    re.IGNORECASE,
)
# Without an @, a password that was put in the place of the address is a single word.
_LOOKS_LIKE_HOST = re.compile(r"localhost|\[.+\](?::\d+)?|[^:]+:\d+|[^.:]+(?:\.[^.:]+)+", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_]{1,40}", re.ASCII)
_NO_DATABASES = frozenset({"", "admin", "local", "config"})
NOT_UNDERSTOOD = (
    "is not one that the MongoDB driver understands, such as mongodb://user:password@host:port/?option=value; "
    "in a password, percent-encode what is no letter or digit"
)


@dataclass(frozen=True, slots=True)
class MongoDBAddress:
    url: str = field(repr=False)
    """Without the options that are not for the driver."""
    hosts: str
    """As messages show them."""
    database: str | None
    settings: Mapping[str, float]
    options: Mapping[str, str] = field(repr=False)
    """Those for the driver, by their names in small letters."""


def parse(name: str, url: str) -> MongoDBAddress:
    """Read the url of the connection `name`. What only the driver can judge is left to `check_options`."""
    matched = _URL.fullmatch(url)
    if matched is None:
        raise ConfigurationError(f"the connection {name!r}: its url {NOT_UNDERSTOOD}")
    kept: list[str] = []
    seen: set[str] = set()
    options: dict[str, str] = {}
    settings: dict[str, float] = {}
    text = matched["options"] or ""
    for pair in filter(None, re.split(r"[&;]", text)):
        written, equals, value = pair.partition("=")
        key = written.lower()
        if not equals or not _NAME.fullmatch(written):
            raise _wrong(name, f"its url {NOT_UNDERSTOOD}")
        if key in seen and key != "readpreferencetags":
            raise _wrong(name, f"its url has the option {written!r} twice")
        seen.add(key)
        try:
            if _is_for_the_driver(key, unquote_plus(value), settings):
                kept.append(pair)
                options[key] = unquote_plus(value)
        except OptionError as error:
            raise _wrong(name, f"the option {written!r} of its url can only be {error}") from None
    base = url[: matched.start("options")].removesuffix("?") if matched["options"] is not None else url
    if kept and matched["database"] is None:
        base += "/"
    database = unquote(matched["database"] or "")
    return MongoDBAddress(
        url=f"{base}?{'&'.join(kept)}" if kept else base,
        hosts=_shown(matched),
        database=None if database in _NO_DATABASES else database,
        settings=settings,
        options=options,
    )


def _is_for_the_driver(key: str, value: str, settings: dict[str, float]) -> bool:
    if key in IGNORED:
        boolean(value)
        return False
    if key in _SETTINGS:
        found = number(value, whole=True)
        add(settings, _SETTINGS[key], found if key == "maxpoolsize" else found / 1000)
        return False
    if key in _FIXED:
        if value.lower() != _FIXED[key]:
            raise OptionError(_FIXED[key])
        return False
    if key in _WITHIN:
        number(value, whole=True)
    elif key == "w" and value == "0":
        raise OptionError("1 or more, or majority: what is not acknowledged has no result")
    return True


def check_options(name: str, address: MongoDBAddress, seconds: float) -> None:
    """Refuse by its name what the driver would only warn of and leave out, or what cannot hold within `timeout`."""
    from pymongo.common import URI_OPTIONS_VALIDATOR_MAP  # noqa: PLC0415 - an optional package
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    known: dict[str, Any] = {key: each for key, each in URI_OPTIONS_VALIDATOR_MAP.items() if key not in _GONE}
    for key, value in address.options.items():
        validate = known.get(key)
        if validate is None:
            near = did_you_mean(key, known)
            raise _wrong(name, f"its url has the option {key!r}, which the MongoDB driver does not know{near}")
        if key in _WITHIN and int(value) / 1000 > seconds:
            raise _wrong(name, f"the option {key!r} of its url is longer than `timeout`, which ends all: raise that")
        if key == "compressors":
            missing = [each for each in value.split(",") if not _can_compress(each)]
            if missing:
                raise _wrong(name, "the option 'compressors' of its url names one whose package is not installed")
            continue
        wrong = "has no value that it can have"
        with suppress(PyMongoError, ValueError, TypeError):  # they quote the value
            try:
                validate(key, value)
            except OSError:
                wrong = "names a file that cannot be read"
            else:
                continue
        raise _wrong(name, f"the option {key!r} of its url {wrong}")


def _can_compress(name: str) -> bool:
    from pymongo import compression_support  # noqa: PLC0415 - an optional package

    return bool(getattr(compression_support, f"_have_{name}", lambda: False)())


def _shown(matched: "re.Match[str]") -> str:
    """The hosts, unless they may be a piece of a password."""
    hosts = matched["hosts"]
    if "@" not in matched[0] and not all(map(_LOOKS_LIKE_HOST.fullmatch, hosts.split(","))):
        return "a server"
    return hosts


def _wrong(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"the connection {name!r}: {reason}")
