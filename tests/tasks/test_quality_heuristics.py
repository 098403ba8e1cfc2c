"""quality: every heuristic rule on texts whose measures are counted by hand, in scripts with and without spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.quality.heuristics import HeuristicsConfig, judge_texts, measure_texts, rules_of
from tasks.quality.heuristics.config import RepetitionConfig

ALL = HeuristicsConfig.model_validate({name: {"enabled": True} for name in ("gopher", "repetition", "c4", "fineweb")})


def measured(text: str, language: str = "en", **settings: Any) -> dict[str, float]:
    config = ALL.model_copy(update=settings)
    found = measure_texts(pa.array([text]), pa.array([language]), config)
    return {name: values.tolist()[0] for name, values in found.items()}


def test_words_letters_and_symbols_by_hand() -> None:
    found = measured("The quick fox's 3 #tags – and\n#more... that’s… it -- 42%!")
    # Words: The quick fox's 3 #tags and #more... that’s… it 42%!; beside them – and -- stand alone.
    assert found["words"] == 10
    assert found["mean_word_length"] == (3 + 5 + 4 + 1 + 4 + 3 + 4 + 5 + 2 + 2) / 10
    assert found["hash_ratio"] == 2 / 10 and found["ellipsis_ratio"] == 2 / 10
    assert found["alphabetic_words"] == 8 / 12  # all but 3, 42%!, – and --
    assert found["newlines_per_word"] == 1 / 10
    assert found["stop_words"] == 3  # the, and, that: different ones
    assert np.isnan(measured("the and", "de")["stop_words"])


def test_a_text_without_spaces_has_words_of_some_characters() -> None:
    found = measured("今天天气很好，我们去公园。", "zh")  # eleven characters between the punctuation
    assert found["words"] == pytest.approx(11 / 1.5) and found["alphabetic_words"] == 1
    assert np.isnan(found["mean_word_length"]) and np.isnan(found["stop_words"])
    assert found["sentences"] == 1 and found["punctuated_lines"] == 1
    # 13 characters, 11 of them as wide as 4 Latin ones: 46.
    for short_line, short in ((46, 0), (47, 1)):
        fineweb = ALL.fineweb.model_copy(update={"short_line": short_line})
        assert measured("今天天气很好，我们去公园。", "zh", fineweb=fineweb)["short_lines"] == short
    mixed = measured("Python 是一种语言", "zh")
    assert mixed["words"] == 1 + 5 / 1.5 and np.isnan(mixed["mean_word_length"])
    assert measured("Python code runs 快", "zh")["mean_word_length"] == (6 + 4 + 4) / 3


def test_lines_by_hand() -> None:
    text = "• one\n- two\n-three\n\n  * four...  \n5. five?”\nsix…\n(seven.)\n"
    found = measured(text)
    assert found["bullet_lines"] == 3 / 7  # • one, - two, * four...
    assert found["ellipsis_lines"] == 2 / 7
    assert found["punctuated_lines"] == 4 / 7  # four... five?” six… (seven.)
    assert found["short_lines"] == 1
    assert measured("x" * 30 + "\n" + "x" * 29)["short_lines"] == 0.5  # fewer than 30


def test_emoji_close_a_sentence_and_end_none() -> None:
    for text, ends in (
        ("Five words are in here. 🦁", 1),
        ("Five words are in here! ❤️👩‍🚀)", 1),
        ("Five words are in here 🦁", 0),
    ):
        found = measured(text)
        assert (found["sentences"], found["punctuated_lines"]) == (ends, ends)
    assert measured("Five words are in here. ✓ checked")["punctuated_lines"] == 0


@pytest.mark.parametrize(
    "line",
    [
        "„Das ist gut so.“", "‚Das ist gut so!‘", "»Das ist gut so.«", "›Das ist gut so?‹", "« C’est bien ainsi. »",
        "Այսպես լավ է այստեղ։", "འདི་ནི་ཡག་པོ་ཡིན།", "ᱱᱚᱣᱟ ᱫᱚ ᱵᱮᱥ ᱜᱮᱭᱟ᱾", "This is quite good.\u200b",
        "זה טוב מאוד כך.\u200f",
        "It is good. 🏴\U000e0067\U000e0062\U000e007f",
    ],
)  # fmt: skip
def test_a_sentence_ends_however_its_language_writes_that(line: str) -> None:
    lenient = ALL.c4.model_copy(update={"min_words_per_line": 1})
    found = measured(line, c4=lenient)
    assert (found["punctuated_lines"], found["sentences"]) == (1, 1)


def test_what_is_not_seen_counts_for_nothing() -> None:
    plain, dressed = "A soft line.\nA soft line.", "A so\u00adft line.\u200b\n\ufeffA soft\u2060 line.\n\u200e"
    first, second = measured(plain), measured(dressed)
    assert second.pop("newlines_per_word") == 2 * first.pop("newlines_per_word")
    assert second == pytest.approx(first, nan_ok=True)


def test_marks_stand_on_characters_without_spaces() -> None:
    found = measured("ที่นี่ ｶﾞｶﾞ か\u3099", "th")  # two Thai letters with two marks each, and three kana with one
    assert found["words"] == pytest.approx(5 / 1.5)
    for short_line, short in ((22, 0), (23, 1)):  # five characters as wide as four, and two spaces
        fineweb = ALL.fineweb.model_copy(update={"short_line": short_line})
        assert measured("ที่นี่ ｶﾞｶﾞ か\u3099", "th", fineweb=fineweb)["short_lines"] == short


def test_thai_and_lao_need_no_ends_of_sentences() -> None:
    for text, judged in (
        ("ที่นี่ประเทศไทย", False),
        ("ປະເທດລາວ", False),
        ("ไทย and more English words here", True),
        ("中文", True),
    ):
        found = measured(text)
        assert np.isnan(found["punctuated_lines"]) == np.isnan(found["sentences"]) == (not judged)
    assert measured("ប្រទេសកម្ពុជា។")["punctuated_lines"] == 1  # Khmer has an end


def test_a_phrase_begins_behind_a_character_without_spaces() -> None:
    lenient = ALL.c4.model_copy(update={"min_words_per_line": 1})
    assert measured("请启用JavaScript后再访问。", "zh", c4=lenient)["sentences"] == 0
    assert measured("The pejavascripts are fine.", c4=lenient)["sentences"] == 1  # within a word it is none


def test_repeated_lines_and_paragraphs_by_hand() -> None:
    text = "aaaa\n bbb \n\naaaa\nbbb\n\n\ncc\naaaa\r\n"
    found = measured(text)
    # Lines aaaa bbb aaaa bbb cc aaaa: three repeat, 4 + 3 + 4 of 20 characters; one of three paragraphs does.
    assert found["duplicate_lines"] == 3 / 6 and found["duplicate_line_characters"] == 11 / 20
    assert found["duplicate_paragraphs"] == 1 / 3 and found["duplicate_paragraph_characters"] == 7 / 20
    # A line is no repetition of a paragraph, nor one text of another.
    config = ALL
    both = measure_texts(pa.array(["same line\n\nother", "same line"]), pa.array(["en", "en"]), config)
    assert both["duplicate_lines"].tolist() == [0, 0] and both["duplicate_paragraphs"].tolist() == [0, 0]


def test_repeated_n_grams_by_hand() -> None:
    found = measured("ab cd ab cd ab cd x")
    # "ab cd" covers 12 of 13 characters; "ab cd ab" five units; "ab cd ab cd" six: overlaps count once.
    assert (found["top_2_gram"], found["top_3_gram"], found["top_4_gram"]) == (12 / 13, 10 / 13, 12 / 13)
    # Of the 5-grams none occurs twice: ab cd ab cd ab, cd ab cd ab cd, ab cd ab cd x.
    assert found["duplicate_5_grams"] == 0
    sentence = "one two three four five six seven"
    twice = measured(f"{sentence}. Eight! {sentence}")
    letters = len(sentence.replace(" ", ""))
    for n in (5, 6, 7):
        assert twice[f"duplicate_{n}_grams"] == letters / (2 * letters + 5)
    assert twice["duplicate_8_grams"] == 0
    assert measured("one two")["top_2_gram"] == 0  # once is no repetition
    assert measured("")["top_2_gram"] == 0


def test_n_grams_of_text_without_spaces_are_longer() -> None:
    text = "网页内容很好" * 2
    found = measured(text, "zh")
    # Two words are three characters: each 3-gram of the six occurs twice and covers 6 of 12 characters.
    assert found["top_2_gram"] == 6 / 12
    assert found["top_4_gram"] == 1  # six characters: 网页内容很好, twice
    assert found["duplicate_5_grams"] == 0  # eight characters


def test_sentences_on_lines_that_count_for_c4() -> None:
    good = "This line has five words. And it has two sentences."
    for line, sentences in (
        (good, 2),
        ("This costs 3.14 and e.g.this is one.", 1),
        ("No end mark on this line at all", 0),
        ("This one trails off like that...", 0),
        ("Only four words here.", 0),
        ("Please enable JavaScript to read this page.", 0),
        ("We use cookies to make this page better.", 0),
        ("He said that it was “quite good enough.”", 1),
        (f"The word {'x' * 1_001} is far too long.", 0),
        ("这是第一句话。这是第二句话！", 2),
        ("Really?! Yes, that is so.", 2),
    ):
        assert measured(f"{good}\n{line}")["sentences"] == 2 + sentences, line
    lenient = ALL.c4.model_copy(update={"terminal_punctuation": False, "javascript": False, "policies": False})
    assert measured("No end mark on this line at all", c4=lenient)["sentences"] == 1
    assert measured("Please enable JavaScript to read this page.", c4=lenient)["sentences"] == 1


def test_pages_that_c4_drops_as_a_whole() -> None:
    found = measured("Lorem Ipsum dolor\nfunction f() { return {} }\nlorem ipsum")
    assert found["lorem_ipsum"] == 2 and found["curly_brackets"] == 2
    words = ALL.c4.model_copy(update={"bad_words": ("Heck", "oh my", "坏词")})
    assert measured("What the HECK? Oh, my! heckler", c4=words)["bad_words"] == 2
    assert measured("这是坏词。", "zh", c4=words)["bad_words"] == 1
    both = measure_texts(pa.array(["oh", "my"]), pa.array(["en", "en"]), ALL.model_copy(update={"c4": words}))
    assert both["bad_words"].tolist() == [0, 0]  # not across two texts


PROSE = "\n".join(
    f"The {a} of the {b} is said to have been {c}, and that is why people {d} with it every day of the {e}."
    for a, b, c, d, e in (
        ("keeper", "harbour", "kind", "walk", "summer"),
        ("painter", "village", "strict", "argue", "autumn"),
        ("doctor", "island", "famous", "travel", "winter"),
        ("teacher", "valley", "patient", "sing", "spring"),
    )
)


@pytest.mark.parametrize(
    ("text", "reason", "score"),
    [
        (PROSE, None, 0.0),
        ("Two words.", "gopher_min_words", 2.0),
        ("w " * 100_001, "gopher_max_words", 100_001.0),
        ("ab " * 60, "gopher_mean_word_length", 2.0),
        ("abcdefghijkl " * 60, "gopher_mean_word_length", 12.0),
        (PROSE + " #" * 10, "gopher_hash_ratio", 10 / 96),
        (PROSE.replace(" of", " of...").replace(" is", " is…"), "gopher_ellipsis_ratio", 17 / 96),
        ("\n".join(f"• {line}" for line in PROSE.splitlines()), "gopher_bullet_lines", 1.0),
        (PROSE.replace("er.", "er..."), "gopher_ellipsis_lines", 0.5),
        (PROSE + " 123" * 30, "gopher_alphabetic_words", 96 / 126),
        ("Lorem dolor amet " * 20, "gopher_stop_words", 0.0),
        (f"{PROSE}\n{PROSE}", "repetition_lines", 0.5),
    ],
)
def test_a_document_is_dropped_by_the_first_rule_that_it_fails(text: str, reason: str | None, score: float) -> None:
    # The prose is made by one pattern, which the rules about n-grams would find.
    n_grams = {name: None for name in RepetitionConfig.model_fields if name.endswith(("gram", "grams"))}
    bounds = {"gopher": {"enabled": True}, "repetition": {"enabled": True, **n_grams}}
    config = HeuristicsConfig.model_validate(bounds)
    verdict = judge_texts(pa.array([text]), pa.array(["en"]), config, np.array([False]))
    number = int(verdict.first[0])
    assert (rules_of(config)[number].reason if number >= 0 else None) == reason
    assert verdict.values[0] == pytest.approx(score)
    exempt = judge_texts(pa.array([text]), pa.array(["en"]), config, np.array([True]))
    assert exempt.first[0] == -1 and exempt.exempt_failing == (reason is not None) and not exempt.failing.any()


def test_the_defaults_are_the_papers_numbers() -> None:
    found = {rule.reason: (rule.side, rule.bound) for rule in rules_of(ALL) if rule.reason != "gopher_mean_word_length"}
    assert found == {
        "gopher_min_words": ("<", 50), "gopher_max_words": (">", 100_000), "gopher_hash_ratio": (">", 0.1),
        "gopher_ellipsis_ratio": (">", 0.1), "gopher_bullet_lines": (">", 0.9), "gopher_ellipsis_lines": (">", 0.3),
        "gopher_alphabetic_words": ("<", 0.8), "gopher_stop_words": ("<", 2),
        "repetition_lines": (">", 0.3), "repetition_paragraphs": (">", 0.3),
        "repetition_line_characters": (">", 0.2), "repetition_paragraph_characters": (">", 0.2),
        "repetition_top_2_gram": (">", 0.2), "repetition_top_3_gram": (">", 0.18), "repetition_top_4_gram": (">", 0.16),
        "repetition_5_grams": (">", 0.15), "repetition_6_grams": (">", 0.14), "repetition_7_grams": (">", 0.13),
        "repetition_8_grams": (">", 0.12), "repetition_9_grams": (">", 0.11), "repetition_10_grams": (">", 0.1),
        "c4_lorem_ipsum": (">", 0), "c4_curly_bracket": (">", 0), "c4_sentences": ("<", 3),
        "fineweb_punctuated_lines": ("<=", 0.12), "fineweb_duplicate_line_characters": (">=", 0.1),
        "fineweb_short_lines": (">=", 0.67),
    }  # fmt: skip
    assert rules_of(HeuristicsConfig()) == [] and not HeuristicsConfig().enabled


def test_rules_go_one_by_one_and_wrong_words_are_refused() -> None:
    config = HeuristicsConfig.model_validate({"gopher": {"enabled": True, "min_words": None, "max_words": None}})
    assert "gopher_min_words" not in {rule.reason for rule in rules_of(config)}
    with pytest.raises(ValidationError, match="'two words' is not one word"):
        HeuristicsConfig.model_validate({"gopher": {"stop_words": ["two words"]}})
    with pytest.raises(ValidationError, match="has no letter and no number"):
        HeuristicsConfig.model_validate({"c4": {"bad_words": ["!!"]}})


def test_what_a_text_measures_does_not_depend_on_its_neighbours() -> None:
    texts = [PROSE, "", f"{PROSE}\n{PROSE}", "网页内容很好。" * 30, "a b\n" * 400, "x", "ที่นี่ " * 50, PROSE[::-1]]
    languages = pa.array(["en", None, "en", "zh", "en", "en", "th", "en"])
    together = measure_texts(pa.array(texts), languages, ALL)
    for number, text in enumerate(texts):
        alone = measure_texts(pa.array([text]), languages.slice(number, 1), ALL)
        for name, values in alone.items():
            assert np.array_equal(values, together[name][number : number + 1], equal_nan=True), (name, number)
