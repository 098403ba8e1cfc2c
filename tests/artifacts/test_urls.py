"""URLs in one spelling: RFC 3986's own examples, what crawls hold, and what must never be mixed up."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.audit.blocklist import Blocklist
from artifacts.urls import PLAIN, canonical_url


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        # RFC 3986 section 6.2.2, but the case of its `%7Bfoo%7D`, which stays encoded.
        ("eXAMPLE://a/./b/../b/%63/%7bfoo%7d", "example://a/b/c/%7Bfoo%7D"),
        ("http://example.com:80/", "http://example.com/"),
        ("http://example.com:/", "http://example.com/"),
        ("http://example.com", "http://example.com/"),
        # Section 5.4's dot segments, with a base's path before them.
        ("http://a/b/c/./g", "http://a/b/c/g"),
        ("http://a/b/c/../../../../g", "http://a/g"),
        ("http://a/b/c/g.", "http://a/b/c/g."),
        ("http://a/b/c/..g", "http://a/b/c/..g"),
        ("http://a/b/c/g;x=1/../y", "http://a/b/c/y"),
        ("http://a/b/%2e%2E/c", "http://a/c"),
        ("http://a/b?x=/../y", "http://a/b?x=/../y"),
        # An encoded slash is no slash, and empty segments mean something.
        ("http://a/b%2fc", "http://a/b%2Fc"),
        ("http://a//b//", "http://a//b//"),
        # Hosts.
        ("http://EX%41MPLE.org/", "http://example.org/"),
        ("http://b%C3%BCcher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.org./", "http://example.org/"),
        ("http://a%2Fb.example/", "http://a%2fb.example/"),
        ("http://a%ff.example/", "http://a%ff.example/"),
        # Browsers take a backslash for a slash; in a query it is a character.
        ("http:\\\\example.org\\a\\b?c\\d", "http://example.org/a/b?c%5Cd"),
        ("http://blocked.example\\x@other.example/", "http://blocked.example/x@other.example/"),
        ("http://example.org/a?b=1&a=2&utm_source=x", "http://example.org/a?b=1&a=2&utm_source=x"),
        ("http://example.org/\ta\nb", "http://example.org/ab"),
        ("dns:example.org", "dns:example.org"),
        ("http://example.org:99999/", "http://example.org:99999/"),
        ("", ""),
    ],
)
def test_spellings(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical


CHARACTERS = 'aZ09%2e41fF/.?#&=:@[]\\ ü中-_~!;|"<>\ud800\0'
urls = st.builds(
    lambda scheme, host, rest: f"{scheme}{host}{rest}",
    st.sampled_from(["http://", "HTTPS://", "ftp://", "x://", "http:/", "//", ""]),
    st.text(CHARACTERS, max_size=12),
    st.text(CHARACTERS, max_size=24),
)


@settings(max_examples=400, deadline=None)
@given(urls)
def test_a_normal_form_is_its_own_normal_form(url: str) -> None:
    once = canonical_url(url)
    assert canonical_url(once) == once
    if re.fullmatch(PLAIN, url):
        assert once == url


@settings(max_examples=200, deadline=None)
@given(st.text("abcXYZ019-._~", min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_encoding_what_needs_none_changes_nothing(name: str, chance: object) -> None:
    encoded = "".join(f"%{ord(c):02x}" if chance.random() < 0.5 else c for c in name)  # type: ignore[attr-defined]
    assert canonical_url(f"http://e.org/{encoded}?{encoded}") == canonical_url(f"http://e.org/{name}?{name}")


@pytest.mark.parametrize(
    "url",
    [
        "http://BLOCKED.example/",
        "https://www.blocked.example:8443/a",
        "http://blocked.example./a",
        "http://bl%6Fcked.example/",
        "http://user:word@blocked.example/",
        "http:\\\\blocked.example\\a",
        "http://blocked.example\\@other.example/",
    ],
)
def test_no_spelling_passes_a_blocked_host(url: str) -> None:
    listed = Blocklist(["blocked.example"])
    assert listed.match(canonical_url(url), "0" * 32) == "host blocked.example"
    assert listed.match(canonical_url("http://other.example/blocked.example"), "0" * 32) is None
