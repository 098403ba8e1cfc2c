"""Secrets in URLs: taken out where a URL comes in, put back where it is opened, so that none lies in between.

A config, a data manifest or `--store` may name `https://user:password@host/file?token=abc`. `hidden` turns it into
`https://redacted@host/file?token=redacted` as soon as it is read, and remembers the whole for this process; `revealed`
gives the whole back to the one function that opens it. What is recorded, printed or handed to Prefect never held it.
`redacted` and `redact_text` are the last border, for what did not come in that way: values of fields named like a
secret, messages of other libraries.

Files are known by their hashes and not by their URLs, so a redacted URL changes no identity. Text without a secret
comes back as it is.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote

from artifacts.errors import UserError

WORD = "redacted"  # no character of it means anything in a URL, a glob or a shell
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"'<>]+")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)@")
_PARAMETER = re.compile(r"([?&#;])([^=&#;?]+)=([^&#;)\]}]*)")
_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:token|secret|password|passwd|passphrase|pwd|pass|signature|sig|credentials?|auth|authorization|jwt"
    r"|session|sessionid|apikey|key|[a-z]*(?:accesskey|accesskeyid|secretkey|accesstoken|authtoken|accessid))$"
)
# Fields of configs are named after many things; only these words are never about anything else.
_SECRET_FIELD = re.compile(
    r"(?:^|[^a-z0-9])(?:token|secret|password|passwd|passphrase|signature|credentials?|authorization|jwt|apikey"
    r"|(?:api|access|secret|private)[-_]key)$"
)
_AWS = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")
_ASSIGNED = re.compile(
    r"(?i)\b((?:[a-z0-9]+[-_.])*(?:token|secret|password|passwd|passphrase|apikey|(?:api|access|secret|private)[-_]key))"
    r"([\"']?\s*[=:]\s*[\"']?)([^\s\"',;&]+)"
)
_BEARER = re.compile(r"(?i)\b(authorization\s*:\s*(?:basic|bearer)|bearer)\s+[A-Za-z0-9+/=._~\-]{8,}")
# A password this short may be any word of a message.
SHORTEST = 6

_whole: dict[str, str] = {}  # what `hidden` gave to what it was given
_secrets: set[str] = set()


def redact_url(url: str) -> str:
    """A URL without its credentials: user and password, and query parameters that are named like a secret."""

    def user(found: re.Match[str]) -> str:
        scheme, given = found[1], found[2]
        # `sftp://bob@host` names a login; in a web address even a lone user is often a token.
        secret = ":" in given or scheme.lower() in ("http", "https")
        return f"{scheme}://{WORD if secret else given}@"

    def parameter(found: re.Match[str]) -> str:
        if not _is_secret(found[2]) or not found[3]:
            return found[0]
        return f"{found[1]}{found[2]}={WORD}"

    place, mark, rest = _split(_USER.sub(user, url))  # one inside a parameter too
    return place + _PARAMETER.sub(parameter, mark + rest)


def _split(url: str) -> tuple[str, str, str]:
    """(before, mark, after) the first `?`, `#` or `;`."""
    found = re.search(r"[?#;]", url)
    return (url, "", "") if found is None else (url[: found.start()], found[0], url[found.end() :])


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(unquote(name).lower()) is not None


def redact_text(text: str) -> str:
    """A message without secrets: URLs in it redacted, values that are assigned to a secret's name, AWS key ids, and
    whatever secret `hidden` has met."""
    text = _URL.sub(lambda found: redact_url(found[0]), text)
    text = _ASSIGNED.sub(lambda found: f"{found[1]}{found[2]}{WORD}", text)
    text = _BEARER.sub(lambda found: f"{found[1]} {WORD}", text)
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, WORD)
    return _AWS.sub(WORD, text)


def redacted(value: Any) -> Any:
    """A JSON value without secrets: credentials in URLs, AWS key ids, and texts in fields that are named like one."""
    if isinstance(value, str):
        return _AWS.sub(WORD, _URL.sub(lambda found: redact_url(found[0]), value)) if _may_hold(value) else value
    if isinstance(value, dict):
        return {
            key: WORD if isinstance(inner, str) and inner and _is_secret_field(key) else redacted(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(redacted(inner) for inner in value)
    return value


def _may_hold(text: str) -> bool:
    return "://" in text or "AKIA" in text or "ASIA" in text


def _is_secret_field(key: object) -> bool:
    return isinstance(key, str) and _SECRET_FIELD.search(key.lower()) is not None


def redact_override(override: str) -> str:
    """`a.b=value` as it may be recorded."""
    path, equals, value = override.partition("=")
    if equals and value and _is_secret_field(path):
        return f"{redact_text(path)}={WORD}"
    return redact_text(override)


# --- in and out


def hidden(value: Any) -> Any:
    """The value with the URLs in it redacted; `revealed` finds each again, in this process.

    Raises:
        UserError: two URLs in it differ in their credentials alone, and could not be told apart.
    """
    met: dict[str, str] = {}
    shown = _hide(value, met)
    _whole.update(met)  # a newer password for the same place takes over
    for url in met.values():
        _secrets.update(secret for secret in _secrets_of(url) if len(secret) >= SHORTEST and secret != WORD)
    return shown


def _hide(value: Any, met: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _hide(inner, met) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_hide(inner, met) for inner in value)
    if not isinstance(value, str) or "://" not in value:
        return value
    return _URL.sub(lambda found: _hide_url(found[0], met), value)


def _hide_url(url: str, met: dict[str, str]) -> str:
    closing = url[len(url.rstrip(")]},.;")) :]  # of the text around it
    url = url.removesuffix(closing)
    shown = redact_url(url)
    if shown != url and met.setdefault(shown, url) != url:
        raise UserError(
            f"{shown}: two URLs differ in their credentials alone. Those are not recorded, so the two would be one: "
            "name their files in a data manifest, by their hashes, and have them in the cache or a mirror folder"
        )
    return shown + closing


def _secrets_of(url: str) -> list[str]:
    found = []
    for user in _USER.finditer(url):
        name, colon, password = user[2].partition(":")
        if colon or user[1].lower() in ("http", "https"):
            found += [password or name]
    _, mark, rest = _split(url)
    found += [match[3] for match in _PARAMETER.finditer(mark + rest) if _is_secret(match[2])]
    return [*found, *(unquote(secret) for secret in found)]


def revealed(url: str) -> str:
    """The whole of a URL that `hidden` has redacted in this process, or that `CRAWL2CHAT_STORE` names; else itself."""
    if url in _whole:
        return _whole[url]
    store = os.environ.get("CRAWL2CHAT_STORE", "")
    return store if store and redact_url(store.rstrip("/")) == url.rstrip("/") else url


def credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """(the URL without its user and password, both of them decoded), as HTTP's basic authentication wants them."""
    found = _USER.match(url)
    if found is None:
        return url, None
    user, _, password = found[2].partition(":")
    return f"{found[1]}://{url[found.end() :]}", (unquote(user), unquote(password))
