"""The compiled automaton gives py3langid's own answers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from tasks.ingest.language import HEAD, MIDDLE, _model, count_features, identify, walk

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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*(x.encode() for x in SENTENCES.values()), b"a", b"\xff", b"\0"]), max_size=40))
def test_walking_in_several_places_is_walking_once(parts: list[bytes]) -> None:
    model, text = _model(), b"".join(parts)
    met = np.empty(len(text), np.int32)
    walk(np.frombuffer(text, np.uint8), model.moves, model.rows, model.outputs, met)
    state, once = 0, []
    for byte in text:
        state = int(model.moves[(int(model.rows[state]) << 8) + byte])
        once.append(int(model.outputs[state]))
    assert met.tolist() == once
    found, counts = np.empty(len(text), np.int64), np.empty(len(text), np.float32)
    distinct = count_features(met, found, counts)
    counted = Counter(feature for feature in once if feature >= 0)  # in the order of first sight
    assert list(zip(found[:distinct].tolist(), counts[:distinct].tolist(), strict=True)) == list(counted.items())


def test_the_head_and_the_middle_decide() -> None:
    menu, body = SENTENCES["en"] * 3, SENTENCES["de"] * 200
    assert identify(menu + body)[0] == "de"
    text = menu + body
    middle = (len(text) - MIDDLE) // 2
    assert identify(text)[1] == round(REFERENCE.classify(f"{text[:HEAD]}\n{text[middle : middle + MIDDLE]}")[1], 6)
