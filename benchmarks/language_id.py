"""Languages told right and sentences a second: py3langid as this project runs it, as it comes, and resiliparse.

Sentences of BIG-bench's language identification set (`langid/bigbench_language_identification.jsonl` below
CRAWL2CHAT_MIRROR) that are in one of 52 larger languages.
fastText's lid.176 is measured where FASTTEXT_LID names its model file.

    CRAWL2CHAT_MIRROR=FOLDER python benchmarks/language_id.py
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FILE = "langid/bigbench_language_identification.jsonl"
# The languages with the most Wikipedia articles or speakers that the set has, as it names them.
CODES = {
    "Afrikaans": "af", "Arabic": "ar", "Basque": "eu", "Belarusian": "be", "Bengali": "bn", "Bulgarian": "bg",
    "Catalan": "ca", "Czech": "cs", "Danish": "da", "Dutch": "nl", "English": "en", "Esperanto": "eo",
    "Estonian": "et", "Finnish": "fi", "French": "fr", "Galician": "gl", "Georgian": "ka", "German": "de",
    "Greek": "el", "Gujarati": "gu", "Hebrew": "he", "Hindi": "hi", "Hungarian": "hu", "Icelandic": "is",
    "Indonesian": "id", "Italian": "it", "Japanese": "ja", "Kannada": "kn",
    "Korean": "ko", "Latin": "la", "Latvian": "lv", "Lithuanian": "lt", "Macedonian": "mk", "Malayalam": "ml",
    "Marathi": "mr", "Persian": "fa", "Polish": "pl", "Romanian": "ro", "Russian": "ru",
    "Slovak": "sk", "Slovenian": "sl", "Spanish": "es", "Swahili": "sw", "Swedish": "sv", "Tamil": "ta",
    "Telugu": "te", "Thai": "th", "Turkish": "tr", "Ukrainian": "uk", "Urdu": "ur", "Vietnamese": "vi",
    "Welsh": "cy",
}  # fmt: skip


def read(path: Path) -> list[tuple[str, str]]:
    """(sentence, ISO 639-1 code) of the questions whose right choice is one of `CODES`."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        question = json.loads(line)
        letter = question["choices"][question["gold"]]
        lines = question["query"].splitlines()
        name = next(line.partition(". ")[2].strip() for line in lines if line.startswith(f"{letter}. "))
        if name in CODES:
            sentence = next(line for line in lines if line.startswith("Sentence:"))
            found.append((sentence.partition(":")[2].strip(), CODES[name]))
    return found


def measure(name: str, identify: Callable[[str], str], sentences: list[tuple[str, str]]) -> None:
    """Print the share told right, and sentences a second of CPU time."""
    identify(sentences[0][0])
    start = time.process_time()
    answers = [identify(text) for text, _ in sentences]
    seconds = time.process_time() - start
    right = [answer == code for answer, (_, code) in zip(answers, sentences, strict=True)]
    short = [hit for hit, (text, _) in zip(right, sentences, strict=True) if len(text) < 100]
    sys.stdout.write(
        f"{name:24} {sum(right) / len(right):.3f} right of {len(right)}, below 100 characters "
        f"{sum(short) / max(1, len(short)):.3f} of {len(short)}; {len(sentences) / seconds:,.0f} sentences/s\n"
    )


def main() -> None:
    """Measure what is installed."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier
    from resiliparse.parse.lang import detect_fast

    from tasks.ingest.language import identify

    roots = [Path(part) for part in os.environ.get("CRAWL2CHAT_MIRROR", "").split(os.pathsep) if part]
    path = next((root / FILE for root in roots if (root / FILE).is_file()), None)
    if path is None:
        sys.stdout.write(f"no {FILE} under CRAWL2CHAT_MIRROR: nothing to measure\n")
        return
    sentences = read(path)
    plain = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    plain.set_languages(sorted(label for label in set(plain.labels) if len(label) == 2))
    measure("this project", lambda text: identify(text)[0], sentences)
    measure("py3langid", lambda text: str(plain.classify(text)[0]), sentences)
    measure("resiliparse", lambda text: str(detect_fast(text)[0]), sentences)
    if model := os.environ.get("FASTTEXT_LID"):
        import fasttext

        loaded = fasttext.load_model(model)
        measure("fastText", lambda text: loaded.predict(text.replace("\n", " "))[0][0][9:], sentences)


if __name__ == "__main__":
    main()
