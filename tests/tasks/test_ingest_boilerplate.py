"""The line filter behind resiliparse: what is dropped, what must stay, and pages that must not be emptied."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest import extractors
from tasks.ingest.boilerplate import MOST_LINES, Line, drop_boilerplate, join_lines, read_lines
from tasks.ingest.boilerplate_words import SKIPPED
from tasks.ingest.complexity import (
    _FLAT,
    _FORMATTING,
    _OPTION,
    MAX_DEPTH,
    MOST_LOOKED_AT,
    TooComplex,
    check_complexity,
    scan_tags,
)
from tasks.ingest.config import IngestConfig
from tasks.ingest.extractors import extract_html, main_text, plain_text

FIRST = "The river rose by two metres in the night, and the ferry at the old mill was tied up until the morning came."
SECOND = "Farmers along the banks moved their cattle to the higher fields, where there was grass enough for a week."
NO_WORDS = (np.zeros(2, np.uint64), np.zeros(1, np.bool_))
THIRD = "By noon the water was falling again, and the mayor said that nobody had been hurt and little was lost."
CHINESE = "昨天夜里河水上涨了两米，老磨坊的渡船一直停到第二天早上才重新开航，附近的农民把牛群赶到了高处的草地上。"


def filtered(minimal: str) -> list[str]:
    lines = read_lines(minimal)
    drop_boilerplate(lines)
    return [line.text for line in lines if line.kept]


def paragraphs(*texts: str) -> str:
    return "\n\n".join(f"<p>{text}</p>" for text in texts)


def test_lines_know_headings_links_and_fixed_text() -> None:
    minimal = (
        '<h2>Head &amp; <a href="/x">link</a></h2>\n\nplain &lt;b&gt;<br>\n<a href="/y">\nall linked\n</a>\n\n'
        "<pre>a  &lt; b\n\n    c</pre>\nA\t\tB"
    )
    lines = read_lines(minimal)
    assert [line.text for line in lines] == ["Head & link", "plain <b>", "all linked", "a  < b", "", "    c", "A\t\tB"]
    assert [line.heading for line in lines] == [2, 0, 0, 0, 0, 0, 0]
    assert [line.fixed for line in lines] == [False, False, False, True, True, True, True]
    assert [round(line.linked, 2) for line in lines] == [0.45, 0, 1, 0, 0, 0, 0]
    assert join_lines(lines) == "Head & link\n\nplain <b>\nall linked\n\na  < b\n\n    c\nA\t\tB"


def test_what_is_in_links_is_told_apart_wherever_they_open_and_close() -> None:
    ahead = 'one <a href="/1">two</a> six <a href="/2">ten'
    lines = read_lines(f'{ahead}\n<p>in</p>\n<b>out</a>er &amp; on\n<a href="/3"></a>')
    assert [line.text for line in lines] == ["one two six ten", "in", "outer & on"]
    assert [line.linked for line in lines] == pytest.approx([7 / 15, 1, 0.3])  # of the first one, `one  six` is not


@pytest.mark.parametrize("word", ["cookies", "COOKIES", "coo\u212aies"])
def test_a_line_of_any_length_that_asks_for_consent_goes(word: str) -> None:
    asking = f"{FIRST} {SECOND} {THIRD} By continuing you accept {word}."
    assert filtered(paragraphs(FIRST, asking, SECOND)) == [FIRST, SECOND]
    assert filtered(paragraphs(FIRST, asking.replace(word, "tea"), SECOND))[1] == asking.replace(word, "tea")


def test_weights_count_bytes_so_that_chinese_is_running_text() -> None:
    assert len(CHINESE) < 60
    assert read_lines(f"<p>{CHINESE}</p>")[0].weight == len(CHINESE.encode())
    assert filtered(paragraphs(CHINESE, "下一篇：另一条新闻", CHINESE[::-1])) == [CHINESE, CHINESE[::-1]]


@pytest.mark.parametrize(
    "notice",
    [
        "Subscribe now",
        "Share this article",
        "Follow us on Twitter",
        "READ MORE: Another flood in the north",
        "Photo: A. Person, Agency",
        "Advertisement",
        "© 2019 Some Paper. All rights reserved.",
        "We use cookies to improve your browsing experience on our site, to show you offers and for other reasons.",
        "Diese Seite verwendet Cookies, um Ihnen das beste Erlebnis zu bieten. Mit der Nutzung sind Sie einverstanden.",
        "Lire la suite",
        "责任编辑：某某",
        "続きを読む",
        '<a href="/1">ANOTHER STORY ALTOGETHER WITH A LONG TITLE</a>',
    ],
)
def test_notices_and_linked_lines_go(notice: str) -> None:
    assert filtered(paragraphs(FIRST, notice, SECOND, THIRD)) == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize(
    "sentence",
    [
        "He said that sharing this was a mistake.",
        "The cookies were baked with butter and sugar.",
        "Comments from readers helped us.",
        "Photographs of the flood were shown.",
        "x",
        f'<a href="/2">{FIRST[:-1]} indeed.</a>',
    ],
)
def test_sentences_with_the_same_words_stay(sentence: str) -> None:
    kept = filtered(paragraphs(FIRST, sentence, SECOND, THIRD))
    assert len(kept) == 4 and kept[0] == FIRST


def test_teasers_end_where_running_text_goes_on_and_comments_end_the_page() -> None:
    teaser = '<p>Related articles</p>\n\n<h4><a href="/a">Title of another</a></h4>\n\n' + paragraphs(SECOND[::-1])
    assert filtered(f"{paragraphs(FIRST, SECOND, THIRD)}\n\n{teaser}") == [FIRST, SECOND, THIRD]
    more = paragraphs(FIRST + " Again.", SECOND + " Again.")
    again = f"{paragraphs(FIRST, SECOND, THIRD)}\n\n<p>Read next</p>\n<p>Short teaser</p>\n\n{more}"
    assert filtered(again) == [FIRST, SECOND, THIRD, FIRST + " Again.", SECOND + " Again."]
    comments = f"<h3>2 Comments</h3>\n\n{more}"
    assert filtered(f"{paragraphs(FIRST, SECOND, THIRD)}\n\n{comments}") == [FIRST, SECOND, THIRD]
    # Where little stands before it, what follows is the page.
    assert filtered(f"{paragraphs('Some words.')}\n\n{comments}")[-2:] == [FIRST + " Again.", SECOND + " Again."]


def test_copies_labels_and_empty_headings_go() -> None:
    minimal = (
        "Breaking\nNovember 20\n\n<h1>The flood</h1>\n\n"
        + paragraphs(FIRST, "A caption of the picture", SECOND, "A caption of the picture")
        + "\n\n<h2>Nothing below</h2>\n\n<h2>The end</h2>\n\n"
        + paragraphs(THIRD)
        + "\n\n<h3>Newest</h3>"
    )
    assert filtered(minimal) == ["The flood", FIRST, "A caption of the picture", SECOND, "The end", THIRD]


def test_listings_keep_their_links_and_nothing_is_emptied() -> None:
    links = [f"Result number {n} of the long list" for n in range(30)]
    assert filtered("\n".join(f'<a href="/{n}">{text}</a>' for n, text in enumerate(links))) == links
    # All of it is of the kinds that go: then the rules do not know the page, and it stays.
    notices = ["Subscribe now", "Share this", "Advertisement", "Some words"]
    assert filtered("\n".join(notices)) == notices


def test_code_and_tables_stay_as_they_are() -> None:
    code = "def f(x):\n    return x &lt; 1\n\n\nread more\nread more"
    kept = filtered(f"{paragraphs(FIRST)}\n<pre>{code}</pre>\nName\t\tSubscribe\n{paragraphs(SECOND)}")
    assert (
        "\n".join(kept)
        == f"{FIRST}\ndef f(x):\n    return x < 1\n\n\nread more\nread more\nName\t\tSubscribe\n{SECOND}"
    )


@given(st.lists(st.text(alphabet="aZ .中\t<>&;/pre", max_size=30), max_size=12))
def test_any_lines_come_through_whole_or_not_at_all(texts: list[str]) -> None:
    """Text with markup characters, escaped as the serializer does, is given back; the filter only leaves lines out."""
    escaped = [text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in texts]
    lines = read_lines("\n".join(escaped))
    assert [line.text for line in lines] == [text for text in texts if text.strip()]
    before = [line.text for line in lines]
    drop_boilerplate(lines)
    kept = [line.text for line in lines if line.kept]
    rest = iter(before)
    assert all(text in rest for text in kept)
    assert bool(kept) == bool(before)


def test_pages_go_through_parser_and_filter() -> None:
    page = (
        "<html><body><nav><a href=/>Home</a></nav><main><h1>The flood</h1>"
        "<figure><img alt=x><figcaption>Seen from above"
        f"</figcaption></figure><p>{FIRST}</p><p>{SECOND}</p><div class='related'><p>{FIRST[::-1]}</p></div>"
        f"<pre>a = 1\n  b</pre><table><tr><td>1</td><td>2</td></tr></table><p>{THIRD}</p></main></body></html>"
    )
    assert extract_html(page) == f"The flood\n\n{FIRST}\n\n{SECOND}\n\na = 1\n  b\n1\t\t2\n\n{THIRD}"
    assert extract_html(page, main_content=False) == plain_text(page, [])
    assert THIRD not in extract_html(page, skip=["p"])
    # A page that is one of the skipped elements is not emptied.
    inside = f"<html><body><div class='related'><p>{FIRST}</p></div></body></html>"
    assert main_text(inside, [".related"]) == ""
    assert extract_html(inside) == FIRST


@pytest.mark.parametrize("main_content", [True, False])
def test_ruby_is_read_without_its_readings(main_content: bool) -> None:
    ruby = "<ruby>図書館<rp>(</rp><rt>としょかん</rt><rp>)</rp></ruby>"
    older = "<RUBY><RB>図<RB>書<RTC><RT>と<RT>しょ</RTC></RUBY>"
    page = f"<html><body><main><p>毎日、{ruby}へ行って{older}を読む。{'長い文章です。' * 40}</p></main></body></html>"
    text = extract_html(page, main_content)
    assert text.startswith("毎日、図書館へ行って図書を読む。") and "しょ" not in text


@pytest.mark.parametrize("letter", ["子", "あ", "한", "ก", "É", "A"])
def test_a_letter_alone_in_its_element_stays(letter: str) -> None:
    """resiliparse takes those of three bytes for icons."""
    page = f"<html><body><main><p>{SECOND} <em>{letter}</em>x <b>\ue001</b>y <i>›</i>z</p></main></body></html>"
    assert extract_html(page) == f"{SECOND} {letter}x y z"


def test_depth_is_bounded_before_parsing() -> None:
    check_complexity("<div>" * MAX_DEPTH)
    with pytest.raises(TooComplex) as caught:
        check_complexity("</p>" * 9_999 + "<div>" * (MAX_DEPTH + 1))
    assert (caught.value.value, caught.value.limit) == (MAX_DEPTH + 1, MAX_DEPTH)
    check_complexity("<div><p>a<br></div>" * MAX_DEPTH)


@pytest.mark.parametrize(
    ("html", "what"),
    [
        ("<p>" * 200_001, "200001 elements"),
        ("".join(f"<p><font size={n}>x" for n in range(251)), "251 formatting elements are open at once"),
        ("<SELECT>" + "<oPtion>" * 10_001, "10001 options"),
        (f"<p {' '.join(f'a{n}=x' for n in range(3_001))}>text", "an element with 3001 attributes"),
        (f"<p {'/'.join(f'a{n}' for n in range(3_001))}>text", "an element with 3001 attributes"),
        # A quoted value may hold what looks like another tag.
        (f"<p b='<' {' '.join(f'a{n}' for n in range(3_000))}>text", "an element with 3001 attributes"),
        ("<div></b>text" * 251 + "<b></div>text" * 251, "251 formatting elements are open at once"),
    ],
)
def test_bombs_are_known_by_what_they_are_made_of(html: str, what: str) -> None:
    with pytest.raises(TooComplex) as caught:
        check_complexity(html)
    assert str(caught.value) == what


def test_large_pages_are_no_bombs() -> None:
    check_complexity("<p>text</p>" * 200_000)
    check_complexity("<p><b>x</b><i>y</i></p>" * 9_000)
    check_complexity("<br>" * 400 + "<p><font size=1>x</font>" * 400)
    check_complexity("<select>" + "<option>" * 10_000)
    check_complexity(f"<p title='{'many words ' * 9_000}'>text</p><script>{'var a = 1; ' * 9_000}</script>")
    check_complexity(f"<p>{'many words ' * 9_000}")


def test_a_flood_of_lines_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(minimal: str) -> list[Line]:
        raise AssertionError(f"{len(minimal)} characters are made objects")

    monkeypatch.setattr(extractors, "read_lines", refuse)
    flood = "a &lt; b\n" * (MOST_LINES + 1)
    assert extract_html(f"<body><main><pre>{flood}</pre></main></body>").strip() == html.unescape(flood).strip()


PIECES = [
    "<div>",
    "</div>",
    "<p>",
    "</P>",
    "<br/>",
    "< ",
    "ä" * 9,
    "<b",
    "</",
    "<i class='>'>",
    ">",
    "</colgroup1 ",
    '"',
]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_the_scan_counts_what_regular_expressions_count(html: str) -> None:
    flat = set("area base br col embed hr img input link meta param source track wbr p li dt dd tr td th".split())
    depths, opens = [0], [0]
    for tag in re.finditer(r"<(/?)([A-Za-z][A-Za-z0-9]*)", html):
        step = -1 if tag[1] else 1
        if tag[2].lower() not in flat:
            depths.append(max(0, depths[-1] + step))
        if tag[2] in ("b", "i") and html[tag.end() : tag.end() + 1] in (" ", "/", ">") and tag.end() < len(html):
            opens.append(max(0, opens[-1] + step))
    found = counted(html)
    assert found[:3] == [html.count("<") - html.count("</"), max(depths), max(opens)]


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("<p>", 0),
        ("<p a>", 1),
        ("<p a b=c  d = 'e f' g=\"<p h i>\"/j k=l/m>n o", 6),  # k is `l/m`
        ("<p a='>' b=\"'\" c='>", 3),
        ("</p a b>", 2),
        ("<p =a 'b 'c>", 3),
    ],
)
def test_attributes_are_counted_as_parsers_do(tag: str, attributes: int) -> None:
    assert counted(tag)[4] == attributes


def counted(html: str) -> list[int]:
    counts = np.zeros(6, np.int64)
    data = np.frombuffer(html.encode(), np.uint8)
    scan_tags(data, _FLAT, _FORMATTING, _OPTION, 1 << 40, counts, *NO_WORDS)
    return [int(count) for count in counts]


def test_tags_inside_tags_are_looked_at_a_bounded_number_of_times() -> None:
    most = MOST_LOOKED_AT << 16
    counts = np.zeros(6, np.int64)
    html = '<a b="' * 10_000
    scan_tags(np.frombuffer(html.encode(), np.uint8), _FLAT, _FORMATTING, _OPTION, most, counts, *NO_WORDS)
    assert most < counts[5] <= most + len(html)  # of half a length times 10,000
    with pytest.raises(TooComplex, match="tags inside tags"):
        check_complexity(f'<p b="{"x" * 200}' * 2_900)


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ("<p class=caption>", {"caption"}),
        ("<p a='b'CLASS = 'x Related\ny'>", {"related"}),
        ('<p class="x>related\ty>caption caption" title=related>', {"caption"}),
        ("<p title='<p < class=related '>", {"related"}),  # inside a value, but a parser's error could make it a tag
        ("<!-- <b class=\tcaption", {"caption"}),
        ("<p class='rel&#97;ted'>", {"related", "caption"}),  # a reference: any word may be there
        ("<p class='x related&Tab;y'>", {"related", "caption"}),
        ("<p class='x [&_p]:mt-4 [&>p]:mt-4 related&amp; &'>", set()),
        ("<p class='related-x mycaption x--related captions' id=related title='caption'>related</p>", set()),
        ("<p class='related_x related2 3caption caption:hover captión \"related\"'>", set()),
        ("<p class related>class=related <p classes=caption xclass=caption><caption><p class=x class=caption", set()),
    ],
)
def test_classes_of_tags(markup: str, found: set[str]) -> None:
    assert check_complexity(markup, ("related", "caption")).classes == found
    assert check_complexity("", ("related",), markup.encode()).classes == found & {"related"}


@pytest.mark.parametrize("selector", SKIPPED)
def test_every_element_to_leave_out_is_left_out(selector: str) -> None:
    box = f"<div class='a {selector.removeprefix('.')}'>{THIRD}</div><figcaption>{THIRD}</figcaption>"
    page = f"<body><main><p>{FIRST}</p>{box}<p>{SECOND}</p></main></body>"
    assert extract_html(page).split() == [*FIRST.split(), *SECOND.split()]


def test_trafilatura_by_choice() -> None:
    pytest.importorskip("trafilatura")
    text = f"<p>{FIRST}</p><p>{SECOND}</p><p>{THIRD}</p>"
    page = f"<html><body><nav><a href=/>Home</a></nav><article>{text}</article></body></html>"
    assert extract_html(page, extractor="trafilatura") == f"{FIRST}\n{SECOND}\n{THIRD}"
    with pytest.raises(ValueError, match="skip_elements"):
        IngestConfig(extractor="trafilatura", skip_elements=["p"])
    with pytest.raises(TooComplex):
        extract_html("<div>" * 9_999, extractor="trafilatura")
