"""What is left of navigation, teasers and notices once resiliparse has taken a page's main content: found by line.

resiliparse (Bevendorff et al. 2018) judges elements by their names and its recall is high; what it lacks is precision.
Its reduced HTML says of each line whether it is a heading and how much of it is linked, which is what Kohlschütter et
al. 2010 found to tell boilerplate from content, besides length. Rules and thresholds were chosen on one half of the
pages that benchmarks/extraction.py scores, and are reported on the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.ingest.boilerplate_words import (
    CONSENT,
    COOKIES,
    ENDING,
    MARKS,
    NOTICE,
    NOTICE_LENGTH,
    RIGHTS,
    SECTION_LENGTH,
    TEASERS,
)

# Lengths are bytes of UTF-8: a Chinese character says about as much as three Latin letters.
PARAGRAPH = 100  # a line of running text has at least so many
SHORT = 90  # at a page's ends, a line without a full stop below this is a date, a byline, a button
LINKED = 0.7  # a line of which so much is linked is a teaser or navigation
LISTING = 0.5  # a page of which so much is linked is a listing: its links are what it has to say
BEFORE_SECTION = 0.5  # "Related articles" ends the page if so much of its text stands before
LEAST_KEPT = 0.3  # where less would be left, the lines are not of the kind that the rules know
REPEATED = 20  # lines of this length that were there before are a second copy: captions of galleries, calls to act

# A page of more lines is not taken apart: 30 million line ends in a `pre` had taken 2.4 GB when they were stopped.
MOST_LINES = 500_000
_TAG = re.compile(r"<[^>]*>")
_LINK_TAG = re.compile(r"<(/?)a\b[^>]*>")
_SENTENCE_END = frozenset(".,!?…:;，。！？：；」』”\"'’)）]।؟")
_COOKIES = tuple(word.encode() for word in (*COOKIES, "\u212a"))
_FULL_STOP = (".", "。", "．", "।")


@dataclass(slots=True)
class Line:
    """A line of a page's text. `weight` is its length in bytes of UTF-8 without white space at its ends."""

    text: str
    weight: int
    linked: float = 0.0  # share of its text inside links
    heading: int = 0  # 1 to 6, or 0
    fixed: bool = False  # of a `pre` block or a table's row: kept as it stands
    gap: bool = False  # an empty line stands before it
    kept: bool = True


def read_lines(minimal: str) -> list[Line]:
    """The lines of resiliparse's `minimal_html` output (with links) that hold text."""
    lines: list[Line] = []
    inside_link = inside_pre = gap = False
    for raw in minimal.split("\n"):
        if not raw and not inside_pre:
            gap = True
            continue
        heading, fixed, names_link = 0, inside_pre, False
        if "<" not in raw:
            text = _unescape(raw)
            outside = "" if inside_link else text
        elif raw.startswith("<p>") and raw.endswith("</p>") and raw.count("<") == 2 and not inside_link:
            outside = text = _unescape(raw[3:-4])  # as most are
        else:
            heading = int(raw[2]) if raw.startswith("<h") and raw[2:3].isdigit() else 0
            inside_pre = ("<pre>" in raw or inside_pre) and "</pre>" not in raw
            fixed = fixed or inside_pre
            names_link = "<a" in raw or "</a" in raw
            text, outside, inside_link = _split_links(raw, inside_link)
        stripped = text.strip()
        if not stripped:
            if fixed and lines:
                lines.append(Line("", 0, fixed=True))
            else:
                gap = gap or not names_link  # a link's tag that stands alone is no empty line
            continue
        weight = _weight(stripped)
        linked = 0.0 if outside is text else max(0.0, 1 - _weight(outside.strip()) / weight)
        lines.append(Line(text, weight, linked, heading, fixed or "\t" in stripped, gap))
        gap = False
    return lines


def without_tags(minimal: str) -> str:
    """The text of resiliparse's `minimal_html` output, all of it."""
    return _unescape(_TAG.sub("", minimal))


def _weight(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _split_links(raw: str, inside: bool) -> tuple[str, str, bool]:
    """(a line's text, what of it is in no link, whether a link is open behind it)."""
    pieces = _LINK_TAG.split(raw)  # what stands between tags of links, and behind each piece `/` if the tag closes one
    if len(pieces) == 1:
        text = _plain(raw)
        return text, "" if inside else text, inside
    outside = [] if inside else pieces[:1]
    for at in range(1, len(pieces), 2):
        inside = not pieces[at]
        if not inside:
            outside.append(pieces[at + 1])
    return _plain("".join(pieces[::2])), _plain("".join(outside)), inside


def _plain(piece: str) -> str:
    return _unescape(_TAG.sub("", piece) if "<" in piece else piece)


def _unescape(text: str) -> str:
    # The serializer escapes these and nothing else; `html.unescape` would also undo what authors wrote about HTML.
    if "&" not in text:
        return text
    return (
        text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", '"')
        .replace("&#39;", "'")
        .replace("&nbsp;", "\u00a0")
        .replace("&amp;", "&")
    )


def join_lines(lines: list[Line]) -> str:
    """The kept lines as plain text."""
    parts: list[str] = []
    for line in lines:
        if line.kept:
            parts += ("\n\n" if line.gap else "\n", line.text)
    return "".join(parts[1:])


def drop_boilerplate(lines: list[Line]) -> None:
    """Clear `kept` of the lines that are none of the page's content; of none where too little would be left."""
    total = sum(line.weight for line in lines)
    listing = sum(line.weight * line.linked for line in lines) > LISTING * total
    _notices_and_copies(lines)
    if not listing:
        _sections(lines, total)
        for line in lines:
            if line.linked >= LINKED and not line.heading and not line.fixed and not _is_sentence(line):
                line.kept = False
        _ends(lines)
    _empty_headings(lines)
    if sum(line.weight for line in lines if line.kept) < LEAST_KEPT * total:
        for line in lines:
            line.kept = True


def _notices_and_copies(lines: list[Line]) -> None:
    seen: set[str] = set()
    # Small letters only of lines that may be notices: a fifth of the text, and outside ASCII it is slow.
    short = "\n".join([line.text for line in lines if line.weight <= NOTICE_LENGTH and not line.fixed]).lower()
    rights = tuple(words for words in RIGHTS if words in short)
    small = iter(short.split("\n"))
    may_ask = _may_name_cookies(lines)
    for line in lines:
        if line.fixed:
            continue
        if line.weight <= NOTICE_LENGTH:
            lower = next(small).strip()
            is_notice = NOTICE.match(lower.lstrip(MARKS)) is not None or _holds(lower, rights)
        else:
            lower, is_notice = "", False
        if is_notice or (may_ask and _asks_for_consent(lower or line.text.lower())):
            line.kept = False
        elif line.weight >= REPEATED:
            text = line.text.strip()
            line.kept = text not in seen
            seen.add(text)


def _asks_for_consent(lower: str) -> bool:
    return _holds(lower, COOKIES) and CONSENT.search(lower) is not None


def _may_name_cookies(lines: list[Line]) -> bool:
    """Whether one of COOKIES may stand in the page's small letters. Bytes know those of ASCII alone, and of all other
    characters only the Kelvin sign becomes one."""
    page = "\n".join([line.text for line in lines]).encode("utf-8", "replace").lower()
    return any(word in page for word in _COOKIES)


def _holds(text: str, words: tuple[str, ...]) -> bool:
    return bool(words) and any(word in text for word in words)


def _sections(lines: list[Line], total: int) -> None:
    """Drop teasers up to where running text goes on, and all that other people say below a text."""
    before = 0
    inside = False
    for at, line in enumerate(lines):
        if line.weight <= SECTION_LENGTH and not line.fixed and before >= BEFORE_SECTION * total:
            start = line.text.lower().lstrip(MARKS)
            if ENDING.match(start):
                for later in lines[at:]:
                    later.kept = False
                return
            inside = inside or TEASERS.match(start) is not None
        before += line.weight
        # A teaser may have a paragraph of its own; two together are the text.
        if inside and _is_paragraph(line) and at + 1 < len(lines) and _is_paragraph(lines[at + 1]):
            inside = False
        if inside:
            line.kept = False


def _is_sentence(line: Line) -> bool:
    """Linked as a whole, and yet no teaser: those are titles, which end without a full stop."""
    return line.weight >= PARAGRAPH and line.text.rstrip().endswith(_FULL_STOP)


def _is_paragraph(line: Line) -> bool:
    return line.kept and (line.fixed or (line.weight >= PARAGRAPH and not line.heading and line.linked < LINKED))


def _is_label(line: Line) -> bool:
    """A date, a byline, a button: short, and no sentence."""
    return not line.heading and line.weight < SHORT and line.text.rstrip()[-1] not in _SENTENCE_END


def _ends(lines: list[Line]) -> None:
    """Before the first running text drop the labels, behind the last one the headings: lists may end a page."""
    running = [at for at, line in enumerate(lines) if _is_paragraph(line)]
    if len(running) < 2:
        return
    for line in lines[: running[0]]:
        if _is_label(line):
            line.kept = False
    for line in lines[running[-1] + 1 :]:
        if line.heading:
            line.kept = False


def _empty_headings(lines: list[Line]) -> None:
    """Drop headings under which nothing is left, but for the page's title."""
    follows = 7  # level of the heading that follows next; 0 once text follows
    for line in reversed(lines):
        if not line.kept:
            continue
        if not line.heading:
            follows = 0
        elif follows and follows <= line.heading and line.heading > 1:
            line.kept = False
        else:
            follows = line.heading
