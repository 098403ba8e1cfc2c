"""pii: what is taken for an address or a number, what is not, and that nothing else of a text changes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import UserError
from artifacts.store import Artifact, Store
from artifacts.tables import DOCUMENTS
from tasks.pii import STAGE, PiiConfig
from tasks.pii import stage as pii_stage
from tasks.pii.replace import KINDS, Rules, replace
from tests.support import make_documents, put_table, read_rows, run_stage

MARKS = {"email": "<E>", "ipv4": "<4>", "ipv6": "<6>", "phone": "<P>"}


def cleaned(text: str, lang: str = "en", **rules: Any) -> str:
    found = replace(pa.array([text]), [lang], Rules(MARKS, **rules))
    return found.column("text")[0].as_py() if found.num_rows else text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("john.doe+tag@mail.example.co.uk, o'brien@foo.ie.", "<E>, <E>."),
        ("<a_b@c-d.museum> 'x@y.org'", "<<E>> '<E>'"),
        ("联系邮箱test@qq.com或者", "联系邮箱<E>或者"),
        ("メールはinfo@例え.jpまたはinfo@acme.jpへ", "メールはinfo@例え.jpまたは<E>へ"),
        ("müller@würth.de, иван@почта.рф", "<E>, <E>"),
        ("https://x.org/?email=foo@bar.com&x=1", "https://x.org/?email=<E>&x=1"),
        ("mailto:foo@bar.com?subject=hi", "mailto:<E>?subject=hi"),
        ("http://user:secret@host.net/", "http://user:<E>/"),
        ("12345678@qq.com", "<E>"),
        ("e\u0301te\u0301@acme.fr\u200b", "e\u0301te\u0301@acme.fr\u200b"),  # composed letters only
        ("logo@2x.png left-pad@1.2.3 @handle user@localhost", None),
        ("medium.com/@user.name a..b@c.de .@x.de @ home @@", None),
        ("you@example.com me@mail.example.org test@invalid", None),
        ("x" * 65 + "@acme.com", None),
    ],
)
def test_email(text: str, expected: str | None) -> None:
    assert cleaned(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 93.184.216.34:80, 8.8.8.8/32", "from <4>:80, 8.8.8.8/32"),
        ("http://93.184.216.34/", "http://<4>/"),
        ("地址93.184.216.34号", "地址<4>号"),
        ("10.0.0.7 192.168.0.1 127.0.0.1 169.254.0.99 203.0.113.9 255.255.255.0", None),
        ("version 93.184.216.34, v93.184.216.34, Opera/93.80.2.34, nginx/1.2.3.40", None),
        ("chapter 1.2.3.4 and 12.11.10.9, 1.2.3.4.5, 93.184.216.256, 093.184.216.34", None),
        ("93.184.216.34-beta 193.184.216.3400 1.93.184.216.34", None),
        ("dns 2001:4860:4860::8888.", "dns <6>."),
        ("[2a00:1450:4001:81b::200e]:443", "[<6>]:443"),
        ("2001:4860:4860:0:0:0:0:8888", "<6>"),
        ("fe80::1:2 ::1 2001:db8:1::2 12:30:45 00:1A:2B:3C:4D:5E", None),
        ("x[2000::2] std::dec::add 2024:01:02 12:30:00 a:b:c:d ::: a::b::c", None),
    ],
)
def test_ip(text: str, expected: str | None) -> None:
    assert cleaned(text) == (text if expected is None else expected)


def test_private_addresses_by_option() -> None:
    text = "10.0.0.7 192.168.0.1 fe80::1:2 203.0.113.9"
    assert cleaned(text, private_ip=True) == "<4> <4> <6> 203.0.113.9"


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("en", "(415) 555-2671, 415-555-2671, +1 415.555.2671, 1-800-356-9377.", "<P>, <P>, <P>, <P>."),
        ("en", "tel:+442079460958 or 020 7946 0958", "tel:<P> or <P>"),
        ("de", "Tel.: 030/123 45 67 8, Fax 030 - 12345679", "Tel.: <P>, Fax <P>"),
        ("de", "+49 (0)30 123456-0, 0049 30 123456, (030) 1234567", "<P>, <P>, <P>"),
        ("de", "Telefon: +49 - (40) - 30030-1000", "Telefon: <P>"),
        ("fr", "Tél : 01.42.68.53.00 ou 01 42 68 53 01", "Tél : <P> ou <P>"),
        ("zh", "电话13800138000谢谢，138-0013-8000", "电话<P>谢谢，<P>"),
        ("zh", "电话：010-62345678", "电话：<P>"),
        ("ja", "電話０３－１２３４－５６７８まで", "電話<P>まで"),
        ("pl", "tel. 22 123 45 67", "tel. <P>"),
        ("pl", "22 123 45 67", None),
        ("xx", "call 415-555-2671", "call <P>"),
        ("en", "Tel: 86-23-6771-6666, fax 86 23 67716667", "Tel: <P>, fax <P>"),
        ("en", "86-23-6771-6666, order 86 23 67716667", None),
        ("en", "CALL : 09312687253 or 08595350504", "CALL : <P> or <P>"),
        ("pl", "tel. 22 123 45 67, 22 123 45 68 lub 22 123 45 69.", "tel. <P>, <P> lub <P>."),
        ("pl", "strony 22 123 45 67, 22 123 45 68", None),
        ("en", "555-1234, ISBN 978-0-306-40615-7, 4111 1111 1111 1111, 4111-1111-1111-1111", None),
        ("en", "2014-03-05 10:30, 03/05/2014, 1998-2004, 1,234,567.89 123.456.7890123", None),
        ("en", "order-415-555-2671 id=415-555-2671 415-555-2671-99 /415-555-2671", None),
        ("en", "+1000000000 users, x = 3+4915123456789, 415-555-2671%, 0.123456789012", None),
        ("de", "03.05.2014, 08.30 - 12.00 Uhr, 0378-5955, 030 123 €", None),
        ("de", "IBAN DE89 3704 0044 0532 0130 00", None),
        ("de", "030 1234567 / 030 1234568", "<P> / <P>"),
        ("fr", "le 01.02.2003, prix 1 234 567,00 €, 01.02.03.04", None),
        ("zh", "订单号20130513800138000123", None),
    ],
)
def test_phones(lang: str, text: str, expected: str | None) -> None:
    assert cleaned(text, lang) == (text if expected is None else expected)


def test_regions_of_the_config_replace_those_of_the_language() -> None:
    assert cleaned("030/1234567", "xx") == "030/1234567"
    assert cleaned("030/1234567", "xx", phone_regions=("DE",)) == "<P>"
    assert cleaned("030/12345678", "de", phone_regions=("FR",)) == "030/12345678"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["a@b.com", "93.184.216.34", "+49 30 123456", "(415) 555-2671", "电话", "Tel. ", " ", "\n", "２", "é",
                 "2001:4860:4860::8888", "@", ":", "1", "😀", "\u00a0", "/", "0"]
            ),
            st.text(max_size=4),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_what_is_left_is_the_text(pieces: list[str]) -> None:
    text = "".join(pieces).encode("utf8", "ignore").decode()
    config = PiiConfig()
    rules = Rules({name: getattr(config, name) for name in KINDS})
    once = replace(pa.array(["before", text]), ["de", "de"], rules)
    for row in once.to_pylist():
        assert row["row"] == 1
        left = row["text"]
        for name in KINDS:
            left = left.replace(rules.placeholders[name], "\0")
        position = 0
        for part in left.split("\0"):  # the rest of the text, in order
            found = text.find(part, position)
            assert found >= 0
            position = found + len(part)


def test_placeholders_stay() -> None:
    config = PiiConfig()
    placeholders = {name: getattr(config, name) for name in KINDS}
    text = "; ".join([*placeholders.values(), "Tel. " + config.phone])
    assert replace(pa.array([text]), ["en"], Rules(placeholders, private_ip=True)).num_rows == 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(store: Store, texts: list[Any], mapper: Any = map, **config: Any) -> Artifact:
    documents = put_table(store, DOCUMENTS, make_documents(texts), label=repr(texts))
    return run_stage(STAGE, PiiConfig(**config), store, {"documents": documents}, mapper=mapper).artifact


def test_every_document_is_kept_with_an_account_of_what_was_replaced(store: Store) -> None:
    texts = ["nothing here", "a@b.com, c@d.com 93.184.216.34", None, "", "ring 415-555-2671", "a@b.com"]
    artifact = run(store, texts)
    assert [row["text"] for row in read_rows(artifact)] == [
        "nothing here", "email@example.com, email@example.com 192.0.2.1", None, "", "ring +1-202-555-0100",
        "email@example.com",
    ]  # fmt: skip
    fates = [(r["kept"], r["reason"], r["score"], r["detail"]) for r in read_rows(artifact, "decisions")]
    clean = (True, None, None, None)
    assert fates == [
        clean, (True, "pii_replaced", 3.0, "email: 2, ipv4: 1"), clean, clean,
        (True, "pii_replaced", 1.0, "phone: 1"), (True, "pii_replaced", 1.0, "email: 1"),
    ]  # fmt: skip
    assert artifact.manifest.metrics == {
        "documents": 6,
        "documents_changed": 3,
        "replaced": {"email": 3, "ipv4": 1, "ipv6": 0, "phone": 1},
        "documents_with": {"email": 2, "ipv4": 1, "ipv6": 0, "phone": 1},
    }
    counts = artifact.manifest.counts
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (6, 6, 0, 0)


def test_kinds_and_placeholders_are_the_configs(store: Store) -> None:
    texts = ["a@b.com 93.184.216.34 415-555-2671"]
    assert read_rows(run(store, texts, kinds=["email"], email=""))[0]["text"] == " 93.184.216.34 415-555-2671"
    assert read_rows(run(store, texts, kinds=[]))[0]["text"] == texts[0]
    assert read_rows(run(store, texts, kinds=["ip"], ipv4="$1"))[0]["text"] == "a@b.com $1 415-555-2671"
    with pytest.raises(UserError, match=r"pii\.phone_regions: .*: XX"):
        run(store, texts, phone_regions=["DE", "XX"])
    with pytest.raises(ValueError, match="phone_regions"):
        PiiConfig(phone_regions=["Germany"])


def pickling_map(function: Any, items: Any) -> Iterator[Any]:
    """What another process does with the work: function, items and results are sent as bytes."""
    for item in items:
        there, sent = pickle.loads(pickle.dumps((function, item)))
        yield pickle.loads(pickle.dumps(there(sent)))


def test_grain_does_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'é' * (k % 7)} mail{k}@acme.com" if k % 3 else f"page {k}" for k in range(40)]
    one = run(Store(tmp_path / "one"), texts)
    monkeypatch.setattr(pii_stage, "ROWS_A_BATCH", 3)
    other = run(Store(tmp_path / "other"), texts, mapper=pickling_map)
    assert one.manifest.content == other.manifest.content and one.manifest.metrics == other.manifest.metrics
    assert one.manifest.metrics["documents_changed"] == 26
    assert len(read_rows(run(Store(tmp_path / "none"), []))) == 0
