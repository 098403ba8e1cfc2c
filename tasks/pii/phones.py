"""Telephone numbers among runs of digits: by their form and what stands before them, then by the national plans.

Whether a number can exist is asked of `phonenumbers` (Google's libphonenumber), which knows every country's plan. That
alone would call dates and opening hours German numbers ("03.05.2014" is valid there), so a number must also be written
as one, or be introduced as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

# Countries that write a language; the United States and Canada are in every list, by the form of their numbers.
REGIONS = {
    "ar": ("EG", "SA", "AE", "MA"), "bg": ("BG",), "cs": ("CZ",), "da": ("DK",), "de": ("DE", "AT", "CH"),
    "el": ("GR",), "en": ("GB", "IE", "AU", "NZ", "ZA", "IN"), "es": ("ES", "MX", "AR", "CO", "CL", "PE"),
    "fa": ("IR",), "fi": ("FI",), "fr": ("FR", "BE", "CH"), "he": ("IL",), "hi": ("IN",), "hr": ("HR",),
    "hu": ("HU",), "id": ("ID",), "it": ("IT", "CH"), "ja": ("JP",), "ko": ("KR",), "nl": ("NL", "BE"),
    "no": ("NO",), "pl": ("PL",), "pt": ("BR", "PT"), "ro": ("RO",), "ru": ("RU",), "sk": ("SK",), "sl": ("SI",),
    "sv": ("SE",), "th": ("TH",), "tr": ("TR",), "uk": ("UA",), "vi": ("VN",), "zh": ("CN", "TW", "HK"),
}  # fmt: skip

# One character each, so that places stay the same: full-width forms, dashes and spaces as ASCII.
_ASCII = {0xFF10 + digit: 0x30 + digit for digit in range(10)}
_ASCII |= {0xFF0B: 0x2B, 0xFF08: 0x28, 0xFF09: 0x29, 0xFF0D: 0x2D, 0x2212: 0x2D, 0xA0: 0x20, 0x202F: 0x20, 0x3000: 0x20}
_ASCII |= dict.fromkeys(range(0x2000, 0x200B), 0x20) | dict.fromkeys(range(0x2010, 0x2016), 0x2D)

_START = re.compile(r"(?<!\d)(?:\+ ?)?\(?\d")
_DIGITS = re.compile(r"\d+")
_DIGIT_BEFORE = re.compile(r"\d[^\d]{1,4}\Z")
_CUE = re.compile(
    r"(?:(?<![a-z])(?:tele(?:ph|f)on\w*|t[eé]l[eé]phone|tel[eé]fono?\w*|tele?fax|telefonnummer|telefoon|phones?|mobile?"
    r"|mobil\w*|handy|cell|fax|t[eé]l|fon|hotline|call|dial|whatsapp|sms|m[oó]vil|celular|portable|rufnummer|tlf|gsm|kom"
    r"|ph|тел|телефон|факс)(?:[- ]?(?:no|nr|num|number|nummer|us|at))?|电话|電話|手机|手機|传真|傳真|热线|熱線"
    r"|联系方式|客服|전화|팩스|☎|☏|✆|📞|📱)\Z",
    re.IGNORECASE,
)
# What joins a second number to the first, and a number with that behind it.
_JOINERS = (*"/,;、或和", " or", " and", " oder", " und", " ou", " et", " o", " y", " e", " lub")
_BESIDE = re.compile(
    rf"(?<![\d+(])[+(]{{0,2}}\d[\d ()./-]{{5,24}} ?(?:{'|'.join(map(re.escape, _JOINERS))})[ \n]?\Z", re.IGNORECASE
)
_NORTH_AMERICAN = re.compile(r"(?:1[-. ])?(?:\(\d{3}\)[ -]?|\d{3}[-.])\d{3}[-. ]\d{4}")
_PAIRS = re.compile(r"0\d([. -])\d\d(?:\1\d\d){3}")
_TRUNK_ZERO = re.compile(r"\(?0\d{1,5}\)?(?: ?[/-] ?| )\d+(?:[ -]\d+)*")
_CHINESE_MOBILE = re.compile(r"1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})")
_DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}([./-]) ?\d{1,2}\1 ?(?:19|20)\d\d|(?:19|20)\d\d([./-])\d{1,2}\2\d{1,2})(?!\d)"
    r"|\A\d{1,2}([./-])\d{1,2}\3\d\d\Z|(?<!\d)\d{1,2}\.\d\d ?- ?\d{1,2}\.\d\d(?!\d)"
)
_AFTER = re.compile(r"[A-Za-z0-9_%€$£¥°]| ?(?:€|EUR|Euro|USD|%|km|kg|元)")
_GOES_ON = re.compile(r"[ ./-]{1,3}\d")
_GLUED = frozenset("_-/=#$€£¥&@:.,+*?~^\\")
MOST_DIGITS = 17  # 15 by E.164, and a trunk zero in brackets, and a leading 00


def find_phones(text: str, first: int, last: int, regions: Sequence[str]) -> list[tuple[int, int]]:
    """The telephone numbers within `text[first:last]`, a run of digits and separators; `text` shows what is around it.

    Args:
        regions: countries whose national formats count.
    """
    run = text[first:last].translate(_ASCII)
    found: list[tuple[int, int]] = []
    place = 0
    while start := _START.search(run, place):
        # What follows other digits is a piece of something longer (an IBAN), unless those are a number too.
        follows = bool(_DIGIT_BEFORE.search(run, 0, start.start())) and not (found and found[-1][1] - first == place)
        end = _number_at(text, first, run, start.start(), regions, follows)
        if end:
            found.append((first + start.start(), first + end))
        group = _DIGITS.search(run, start.start())
        assert group is not None
        place = end or group.end()
    return found


def _number_at(text: str, first: int, run: str, start: int, regions: Sequence[str], follows: bool) -> int:
    """The end, in `run`, of the longest number that begins at `start`; 0 if there is none."""
    last = text[max(0, first + start - 1) : first + start]
    if last.isascii() and last.isalnum():
        return 0
    free, cue = not follows and last not in _GLUED, None
    for end in _ends(run, start):
        given = run[start:end]
        after = text[first + end : first + end + 5]
        if given[0] == "+":
            if last not in ("+", "*", "_") and not after[:1].isdigit() and _exists("+" + given.lstrip("+ "), ""):
                return end
            continue
        if _DATE.search(given) or _AFTER.match(after):
            continue
        if free and _is_formed(given, regions):
            return end
        if cue is None:
            cue = _introduced(text[max(0, first + start - 60) : first + start])
        if cue and (_is_national(given, regions) or (not _GOES_ON.match(after) and _is_international(given))):
            return end
    return 0


def _introduced(before: str) -> bool:
    """Whether a word such as "Tel." stands before the place where `before` ends, with at most five marks between, or
    with numbers between that it introduces too ("Tel. 22 123 45 67 or")."""
    # The search takes longer than all else here.
    while before.rstrip().lower().endswith(_JOINERS) and (beside := _BESIDE.search(before)):
        before = before[: beside.start()]
    word = before.rstrip(" .:;,-–—/|*•=>\t\n\u00a0：／）)")
    return len(before) - len(word) <= 5 and _CUE.search(word) is not None


def _ends(run: str, start: int) -> Iterator[int]:
    """Where a number that begins at `start` could end: after a group of digits, the farthest first."""
    ends, digits = [], 0
    for group in _DIGITS.finditer(run, start):
        digits += len(group.group())
        if digits > MOST_DIGITS or "+" in run[start + 1 : group.start()]:
            break
        if digits >= 7:
            ends.append(group.end())
    return reversed(ends)


def _is_formed(given: str, regions: Sequence[str]) -> bool:
    """Whether this is written as a telephone number is, and exists."""
    if _NORTH_AMERICAN.fullmatch(given):
        return _exists(given, "US")
    if _CHINESE_MOBILE.fullmatch(given) and "CN" in regions:
        return _exists(given, "CN")
    if given.startswith("00") and not given.isdigit() and _exists("+" + given.lstrip("0"), ""):
        return True
    trunk = _TRUNK_ZERO.fullmatch(given) and sum(map(str.isdigit, given)) >= 8
    return bool(trunk or _PAIRS.fullmatch(given)) and any(_exists(given, region) for region in regions)


def _is_national(given: str, regions: Sequence[str]) -> bool:
    """Whether this exists, in any form, in one of the countries; or with 00 for +."""
    if given.startswith("00") and _exists("+" + given.lstrip("0"), ""):
        return True
    return _exists(given, "US") if _NORTH_AMERICAN.fullmatch(given) else any(_exists(given, r) for r in regions)


def _is_international(given: str) -> bool:
    """Whether this exists with a + in front of it, and has the ten digits that most such numbers have."""
    return given[0] in "123456789" and sum(map(str.isdigit, given)) >= 10 and _exists("+" + given, "")


@lru_cache(maxsize=1 << 16)
def _exists(given: str, region: str) -> bool:
    """Whether the plan has such a number; `region` is empty for international ones."""
    import phonenumbers  # late: planning a run needs no numbering plans

    try:
        number = phonenumbers.parse(given, region or None)
    except phonenumbers.NumberParseException:
        return False
    if region in ("", "US"):
        return phonenumbers.is_valid_number(number)
    return phonenumbers.is_valid_number_for_region(number, region)
