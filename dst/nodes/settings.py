"""
What a node's URI and its table in the topology say, read strictly.

C{scheme:rest?key=value&key=value}: a key may stand in the query or in the
table, not in both, and a key that nobody asked for is refused, so that a
misspelt C{read_olny} never leaves a disk writable in silence.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from dst.errors import ConfigurationError
from dst.geometry import parse_size

__all__ = ["Settings"]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Settings:
    """
    The settings of one node, each taken once.

    @ivar path: what stands between the scheme and the C{?}, percent-decoded.
    """

    def __init__(self, name: str, uri: str, options: dict[str, object]) -> None:
        """
        @param name: the node's, for the sentences.
        @raise ConfigurationError: the query has no meaning, or says something twice.
        """
        self.name = name
        self.uri = uri
        scheme, _, rest = uri.partition(":")
        path, _, query = rest.partition("?")
        if path.startswith("//"):
            parts = urlsplit(uri)
            if parts.netloc not in ("", "localhost"):
                raise self._error(f"names the host {parts.netloc!r}; {scheme}: is local, write {scheme}:/path")
            path = parts.path
        self.path = unquote(path)
        self._values = dict(options)
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError:
            raise self._error(f"{query!r} is not of the form key=value&key=value") from None
        for key, value in pairs:
            if key in self._values:
                raise self._error(f"says {key!r} twice")
            self._values[key] = value

    def _error(self, sentence: str) -> ConfigurationError:
        return ConfigurationError(f"node {self.name!r}: {self.uri} {sentence}")

    def take_size(self, key: str, default: int | None = None) -> int | None:
        """A number of bytes, as C{64M} or 67108864."""
        value = self._values.pop(key, None)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self._error(f"has {key}={value!r}; expected a size, as 64M")
        try:
            return parse_size(str(value))
        except ValueError as error:
            raise self._error(f"has a bad {key}: {error}") from None

    def take_bool(self, key: str, default: bool = False) -> bool:
        """C{true} or C{false}."""
        value = self._values.pop(key, default)
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise self._error(f"has {key}={value!r}; expected true or false")

    def take_seconds(self, key: str, default: float) -> float:
        """A number of seconds above 0."""
        value = self._values.pop(key, default)
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e9:
            raise self._error(f"has {key}={value!r}; expected seconds, above 0")
        return seconds

    def take_text(self, key: str, default: str = "") -> str:
        """Some words."""
        value = self._values.pop(key, default)
        if not isinstance(value, str):
            raise self._error(f"has {key}={value!r}; expected a string")
        return value

    def finish(self) -> None:
        """
        Nothing more will be taken.

        @raise ConfigurationError: something is left.
        """
        if self._values:
            raise self._error(f"has the unknown setting {min(self._values)!r}")
