"""The compiled automaton gives py3langid's own answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from tasks.ingest.language import HEAD, MIDDLE, _model, identify

REFERENCE = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
REFERENCE.set_languages(sorted(label for label in set(REFERENCE.labels) if len(label) == 2))

SENTENCES = {
    "en": "The ferry at the old mill was tied up until the morning came.",
    "de": "Der Zug nach München fährt heute leider erst um halb neun ab.",
    "fr": "Le train pour Lyon ne part malheureusement qu'à neuf heures ce matin.",
    "ru": "Поезд в Москву сегодня отправляется только в половине девятого утра.",
    "zh": "这是一个关于天气和城市生活的中文句子，没有什么特别的意思。",
    "ja": "今日の電車は九時まで出発しないので、駅で待たなければなりません。",
    "sr": "Воз за Београд данас нажалост полази тек у пола девет ујутру.",
    "ar": "القطار المتجه إلى المدينة لن يغادر قبل الساعة التاسعة صباحا.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_are_told_apart(language: str) -> None:
    assert identify(SENTENCES[language])[0] == language
    assert _model().classify(SENTENCES[language]) == REFERENCE.classify(SENTENCES[language])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*SENTENCES.values(), "A", "ß", "\ud800", "e\u0301", "12", ""]), max_size=8).map(" ".join)
)
def test_scores_are_those_of_py3langid(text: str) -> None:
    assert _model().classify(text) == REFERENCE.classify(text)
    assert _model().classify(text.upper()) == REFERENCE.classify(text.upper())


def test_the_head_and_the_middle_decide() -> None:
    menu, body = SENTENCES["en"] * 3, SENTENCES["de"] * 200
    assert identify(menu + body)[0] == "de"
    text = menu + body
    middle = (len(text) - MIDDLE) // 2
    assert identify(text)[1] == round(REFERENCE.classify(f"{text[:HEAD]}\n{text[middle : middle + MIDDLE]}")[1], 6)
