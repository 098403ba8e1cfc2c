"""The text of an HTML page: its main content by resiliparse and a line filter, or by trafilatura."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from artifacts.errors import UserError
from tasks.ingest.boilerplate import MOST_LINES, drop_boilerplate, join_lines, read_lines, without_tags
from tasks.ingest.boilerplate_words import SKIPPED
from tasks.ingest.complexity import check_complexity
from tasks.ingest.extract import TextError

Extractor = Literal["resiliparse", "trafilatura"]

# Below this there is no article: either the page has none, or the rules took it for something else.
THIN = 200
ALMOST_NOTHING = 5  # times as much in the whole page
_NAMES = tuple(selector.removeprefix(".") for selector in SKIPPED)
# Readings beside the characters of Japanese and Chinese (HTML section 4.5.10): inline they would say each word twice.
READINGS = ("rt", "rp", "rtc")
# resiliparse 2.0 takes an element whose whole text is one character of three bytes in UTF-8 for an icon, and leaves it
# out of the main content: a stressed letter of Chinese, Japanese, Korean or Thai. So a noncharacter goes behind such
# letters for as long as resiliparse looks at the page.
_LONE_LETTER = re.compile(r">((?![\x00-\u07ff])[^\W_])(?=<)")
_MARK = "\ufdd0"


@dataclass
class Page:
    """An HTML page on its way to its text: `check`, `parse` and `text`, in this order.

    Steps, so that each can be taken for many pages at a time.

    Attributes:
        skip: CSS selectors of elements to leave out (resiliparse only).
        encoded: the page in UTF-8, where it is at hand.
    """

    html: str
    main_content: bool = True
    skip: Sequence[str] = ()
    extractor: Extractor = "resiliparse"
    encoded: bytes | None = None
    _present: Sequence[str] = ()  # those of SKIPPED that the page has
    _minimal: str = ""  # the main content as resiliparse's reduced HTML
    _text: str | None = None

    def __len__(self) -> int:
        return len(self.html)

    def check(self) -> None:
        """Raises `TooComplex`: the page would take a parser too long."""
        tags = check_complexity(self.html, _NAMES, self.encoded)
        # Each selector is looked for in the whole tree: half a second in 781 pages, of which most have none of them.
        self._present = [selector for selector, name in zip(SKIPPED, _NAMES, strict=True) if name in tags.classes]
        if tags.lone_characters and self.extractor == "resiliparse":
            self.html = _LONE_LETTER.sub(rf">\1{_MARK}", self.html)
        if "<rt" in self.html or "<RT" in self.html:
            self.skip = [*self.skip, *READINGS]
        self.encoded = None

    def parse(self) -> None:
        """Take the main content out of the page. Raises `TextError`: the page cannot be taken apart."""
        with _giving_up():
            if self.extractor == "trafilatura":
                self._text = _or_all(_trafilatura(self.html), lambda: plain_text(self.html, self.skip))
                return
            tree = HTMLTree.parse(self.html)
            if self.main_content:
                self._minimal = _minimal_html(tree, [*self._present, *self.skip])
            else:
                self._text = plain_text(tree, self.skip)

    def text(self) -> str:
        """The page's text: its main content, or all of it where the main content is almost nothing of the page.

        Raises `TextError`: the page cannot be taken apart."""
        if self._text is not None:
            return self._text
        text = _without_boilerplate(self._minimal)
        if len(text) >= THIN:
            return text
        with _giving_up():  # few pages come here: to parse them again takes less than to keep the trees of all
            tree = HTMLTree.parse(self.html)
            text = _or_all(text, lambda: main_text(tree, self.skip), 2)
            return _or_all(text, lambda: plain_text(tree, self.skip))


@contextmanager
def _giving_up() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise TextError(f"the HTML parser gave up: {error}") from error


def extract_html(
    html: str, main_content: bool = True, skip: Sequence[str] = (), extractor: Extractor = "resiliparse"
) -> str:
    """The text of a page, all steps of `Page` together. Raises `TooComplex` and `TextError`."""
    page = Page(html, main_content, skip, extractor)
    page.check()
    page.parse()
    return page.text()


def _or_all(text: str, everything: Callable[[], str], times: int = ALMOST_NOTHING) -> str:
    """`text`; or `everything`, where `text` is short and everything is several times as much.

    The heuristics take pages built of tables or `pre` for navigation now and then."""
    if len(text) < THIN and len(full := everything()) > times * len(text):
        return full
    return text


def main_text(html: str | HTMLTree, skip: Sequence[str]) -> str:
    """The main content by resiliparse's rules, without the lines that are boilerplate."""
    return _without_boilerplate(_minimal_html(html, skip))


def _minimal_html(html: str | HTMLTree, skip: Sequence[str]) -> str:
    # Without bullets, alt texts, form fields, comments and the lines about author and date: measured better against
    # hand-made texts. Links are asked for to know what is linked; their targets are dropped.
    return str(
        extract_plain_text(
            html,
            preserve_formatting="minimal_html",
            main_content=True,
            list_bullets=False,
            alt_texts=False,
            links=True,
            form_fields=False,
            noscript=False,
            comments=False,
            post_meta=False,
            skip_elements=list(skip) or None,
        )
    ).replace(_MARK, "")


def _without_boilerplate(minimal: str) -> str:
    if minimal.count("\n") > MOST_LINES:
        return without_tags(minimal)
    lines = read_lines(minimal)
    drop_boilerplate(lines)
    return join_lines(lines)


def plain_text(html: str | HTMLTree, skip: Sequence[str]) -> str:
    """All visible text of the page."""
    return str(
        extract_plain_text(
            html,
            preserve_formatting=True,
            main_content=False,
            list_bullets=False,
            alt_texts=False,
            links=False,
            form_fields=False,
            noscript=False,
            comments=False,
            skip_elements=list(skip) or None,
        )
    ).replace(_MARK, "")


def check_installed(extractor: Extractor) -> None:
    """Raise `UserError` for an extractor that is not installed."""
    if extractor == "trafilatura" and (find_spec("trafilatura") is None or find_spec("lxml_html_clean") is None):
        raise UserError(
            "ingest.extractor: trafilatura is not installed: pip install 'crawl2chat[trafilatura]', "
            "or set it to resiliparse"
        )


def _trafilatura(html: str) -> str:
    """The main content by trafilatura (Barbaresi 2021), without comments."""
    from trafilatura import extract

    return extract(html, include_comments=False, deduplicate=False) or ""
