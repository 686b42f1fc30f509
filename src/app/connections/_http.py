"""What stores over HTTP share: the parts of their address, and what httpx says when they fail."""

import base64
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from ..core.errors import (
    AppError,
    ConfigurationError,
    DeadlineExceededError,
    OutcomeUnknownError,
    PoolExhaustedError,
    StoreUnavailableError,
)

_REFUSED = frozenset({401, 403})
_GATEWAY = frozenset({502, 504})  # a proxy has asked the server, and has no answer of it
_UNAVAILABLE = 503
_DISTRUST = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """The parts of a server's `http://…` or `https://…`. As text it has neither credentials nor path."""

    secure: bool
    host: str
    port: int | None
    path: str
    credentials: SecretStr | None

    @classmethod
    def of(cls, url: SecretStr, connection: str) -> "HttpAddress":
        """ConfigurationError, without any part of the text, when it is none."""
        address = cls._parsed(url.get_secret_value())
        if address is None:  # raised here, since an error of the parser quotes the text
            raise ConfigurationError(
                f"the connection {connection!r}: its url is not the address of a server, such as http://host:port or "
                "https://user:password@host:port; in a password, percent-encode what is no letter or digit"
            )
        return address

    @classmethod
    def _parsed(cls, url: str) -> "HttpAddress | None":
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return None
        # An @ after the authority means that a password had a slash in it.
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            return None
        if "@" in parts.path or not all(c.isalnum() or c in "-._:%" for c in parts.hostname):
            return None
        credentials = None
        if parts.username is not None:
            credentials = SecretStr(f"{unquote(parts.username)}:{unquote(parts.password or '')}")
        return cls(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"), credentials)

    def authorization(self) -> dict[str, str]:
        """The header that carries the URL's user and password."""
        if self.credentials is None:
            return {}
        encoded = base64.b64encode(self.credentials.get_secret_value().encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}"


def is_dead(error: BaseException) -> bool:
    """Whether a kept connection turned out to be closed."""
    import httpx  # noqa: PLC0415 - the clients that raise its errors bring it

    return isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) and not isinstance(
        error, httpx.ConnectError
    )


def translated(server: str, error: BaseException, *, status: int | None, write: bool) -> AppError | None:
    """Ours for an error of httpx, or for the status of an answer; None for what the server says about a request."""
    import httpx  # noqa: PLC0415 - as above

    unknown = f"{server} %s: the write may or may not have been applied"
    if status in _REFUSED:
        return StoreUnavailableError(f"{server} refused the credentials ({status})")
    if status == _UNAVAILABLE or (status in _GATEWAY and not write):
        return StoreUnavailableError(f"{server} is not available ({status})")
    if status in _GATEWAY:
        return OutcomeUnknownError(unknown % f"gave no answer ({status})")
    match error:
        case httpx.ConnectError() if _DISTRUST in str(error):
            # OpenSSL's words, without the line of Python's source that they end with.
            reason = str(error).partition(" (_ssl.c:")[0].removeprefix(f"[SSL: {_DISTRUST}] ")
            advice = "" if "not valid for" in reason else "; `ca_file` names an authority that only you trust"
            return StoreUnavailableError(f"{server} is not to be trusted: {reason}{advice}")
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return StoreUnavailableError(f"{server} cannot be reached: {str(error) or 'no answer in time'}")
        case httpx.PoolTimeout():
            reason = str(error) or "no connection became free in time"
            return PoolExhaustedError(f"{server}: {reason}; nothing was sent; raise pool.max_size, or ask less at once")
        case httpx.TimeoutException():
            late = "did not answer in time"
            return OutcomeUnknownError(unknown % late) if write else DeadlineExceededError(f"{server} {late}")
        case httpx.TransportError():
            broken = "broke the connection"
            return OutcomeUnknownError(unknown % broken) if write else StoreUnavailableError(f"{server} {broken}")
        case _:
            return None


def trusted(ca_file: Path | None, connection: str) -> ssl.SSLContext:
    """What TLS is verified with; ConfigurationError when `ca_file` cannot be used. It reads files."""
    if ca_file is None:
        return _usual()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # of which an error of TLS is one
        reason = (
            "has no certificates in PEM form"
            if isinstance(error, ssl.SSLError)
            else f"cannot be read: {error.strerror}"
        )
        raise ConfigurationError(f"the connection {connection!r}: its ca_file {ca_file} {reason}") from error


@lru_cache(maxsize=1)
def _usual() -> ssl.SSLContext:
    """Those that httpx uses. Reading them takes 0.1 s, which each client would do again."""
    import httpx  # noqa: PLC0415 - as above

    return httpx.create_ssl_context()


def limits(timeout: float) -> "dict[str, float | None]":
    """One limit for each step of a request, as httpx keeps them."""
    import httpx  # noqa: PLC0415 - as above

    return httpx.Timeout(timeout).as_dict()
