"""Secrets in URLs: what is shown, what is opened, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from artifacts.errors import UserError
from artifacts.redaction import credentials, hidden, redact_override, redact_text, redact_url, redacted, revealed
from artifacts.store import Store
from tasks.stage import StageConfig, split_config

SIGNED = "https://b.s3.example/k?X-Amz-Algorithm=AWS4&X-Amz-Credential=AKIDxx%2F2&X-Amz-Signature=dead&versionId=3"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host/p?a=1&token=xyz#access_token=q", "https://redacted@host/p?a=1&token=redacted"),
        ("https://lonetoken@host/x", "https://redacted@host/x"),
        ("sftp://bob:pw@host/x", "sftp://redacted@host/x"),
        ("sftp://bob@host/x", "sftp://bob@host/x"),
        (SIGNED, "https://b.s3.example/k?X-Amz-Algorithm=AWS4&X-Amz-Credential=redacted"),
        ("https://host/x?sig=ab&se=2020", "https://host/x?sig=redacted&se=2020"),
        ("https://host/x?tokenizer=a&keyword=b&page=2", "https://host/x?tokenizer=a&keyword=b&page=2"),
        ("s3://key:secret@bucket/x", "s3://redacted@bucket/x"),
        ("http://u:p@[::1]:80/x", "http://redacted@[::1]:80/x"),
        ("https://host/x?next=http://u:pw@other/", "https://host/x?next=http://redacted@other/"),
        ("https://host/mail@list.txt", "https://host/mail@list.txt"),
    ],
)
def test_a_url_is_shown_without_credentials_and_opened_with_them(url: str, shown: str) -> None:
    found = redact_url(url)
    assert found.startswith(shown) and redact_url(found) == found
    for secret in ("pass", "xyz", "lonetoken", "pw", "dead", "AKIDxx", ":secret", "=q"):
        assert secret not in found
    assert hidden(url) == found and revealed(found) == url


def test_messages_lose_what_is_assigned_and_what_was_met_before() -> None:
    hidden("ftp://someone:Tr0ub4dor@host/x")
    text = "login Tr0ub4dor failed at http://u:p@h/?token=abc password=hunter22 Authorization: Bearer abcdefgh12345"
    found = redact_text(text)
    assert not any(secret in found for secret in ("Tr0ub4dor", "u:p", "abc", "hunter22", "abcdefgh"))
    assert found.startswith("login redacted failed at http://redacted@h/")
    plain = "mix.tokens 2000000 -> 5; ingest: http://example.org/a?b=c was not read: 3 tokens: 4"
    assert redact_text(plain) == plain


def test_values_keep_all_but_secrets() -> None:
    value = {"api_key": "abc", "tokens": 5, "tokenizer": "x", "paths": ["http://u:p@h/f", "plain"], "key": "a key"}
    assert redacted(value) == value | {"api_key": "redacted", "paths": ["http://redacted@h/f", "plain"]}
    assert redact_override("a.api_key=abc") == "a.api_key=redacted"
    assert redact_override("ingest.paths=[http://u:p@h/f]") == "ingest.paths=[http://redacted@h/f]"
    assert redact_override("mix.tokens=5") == "mix.tokens=5"


def test_urls_that_only_their_credentials_tell_apart_are_refused() -> None:
    with pytest.raises(UserError, match="differ in their credentials") as error:
        hidden({"paths": ["https://h/download?token=one", "https://h/download?token=two"]})
    assert "one" not in str(error.value).partition(":")[0] and "token=one" not in str(error.value)
    assert hidden(["https://h/d?token=a", "https://h/d?token=a"]) == ["https://h/d?token=redacted"] * 2


def test_credentials_are_decoded() -> None:
    assert credentials("http://us%40er:p%3Aw@host/x?y=1") == ("http://host/x?y=1", ("us@er", "p:w"))
    assert credentials("http://host/x") == ("http://host/x", None)


class _Config(StageConfig):
    paths: list[str] = Field(default_factory=list)
    name: str = "https://example.org/a?b=c"


def test_a_secret_is_in_no_config_and_changes_no_recipe() -> None:
    plain = split_config(_Config(paths=["/data/a.warc.gz", "http://example.org/a?b=c"]))
    assert plain[0] == {"paths": ["/data/a.warc.gz", "http://example.org/a?b=c"], "name": "https://example.org/a?b=c"}
    one, other = (split_config(_Config(paths=[f"http://u:{p}@example.org/a"])) for p in ("one", "two"))
    assert one == other and one[0]["paths"] == ["http://redacted@example.org/a"]


def test_a_store_shows_no_credentials_and_opens_again_by_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store("memory://who:wordofpass@redaction/store/")
    store.write_text("a/b", "text")
    assert store.url == "memory://redacted@redaction/store" and "wordofpass" not in store.join("a")
    assert "wordofpass" not in str(store.scratch_root())
    assert Store(store.url).root == store.root and Store(store.url).read_text("a/b") == "text"
    assert Store(tmp_path / "a@b").url == str(tmp_path / "a@b")
