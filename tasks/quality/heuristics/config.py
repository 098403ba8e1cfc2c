"""The config section `quality.heuristics`: every rule has a bound of its own, and null switches the rule off."""

from __future__ import annotations

from pydantic import Field, field_validator

from tasks.stage import StageConfig
from tasks.text.segment import units

Bound = float | None


def share(default: float, title: str, description: str) -> Bound:
    """A bound on a fraction, in [0, 1]."""
    return Field(default, ge=0, le=1, title=title, description=description)


class GopherConfig(StageConfig):
    """The quality rules of Gopher's MassiveText (Rae et al. 2021, appendix A.1.1)."""

    enabled: bool = Field(False, title="On", description="Apply these rules.")
    min_words: Bound = Field(50, ge=0, title="Fewest words", description="`gopher_min_words`.")
    max_words: Bound = Field(100_000, ge=1, title="Most words", description="`gopher_max_words`.")
    min_mean_word_length: Bound = Field(
        3, ge=0, title="Least mean word length", description="`gopher_mean_word_length`, in letters and digits."
    )
    max_mean_word_length: Bound = Field(
        10, gt=0, title="Greatest mean word length", description="`gopher_mean_word_length`."
    )
    max_hash_ratio: Bound = share(0.1, "Most hash signs a word", "`gopher_hash_ratio`.")
    max_ellipsis_ratio: Bound = share(0.1, "Most ellipses a word", "`gopher_ellipsis_ratio`.")
    max_bullet_lines: Bound = share(0.9, "Most lines with a bullet", "`gopher_bullet_lines`, a share of lines.")
    max_ellipsis_lines: Bound = share(
        0.3, "Most lines ending in an ellipsis", "`gopher_ellipsis_lines`, a share of lines."
    )
    min_alphabetic_words: Bound = share(
        0.8, "Fewest words with a letter", "`gopher_alphabetic_words`, a share of all that stands between white space."
    )
    min_stop_words: Bound = Field(
        2, ge=0, title="Fewest stop words", description="`gopher_stop_words`, different ones of `stop_words`."
    )
    stop_words: tuple[str, ...] = Field(
        ("the", "be", "to", "of", "and", "that", "have", "with"),
        title="Stop words",
        description="One unit each, in any case.",
    )
    stop_word_languages: tuple[str, ...] = Field(
        ("en",),
        title="Languages of the stop words",
        description="`gopher_stop_words` is applied where the column `lang` has one of these.",
    )

    @field_validator("stop_words")
    @classmethod
    def _are_units(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if len(units(word)) != 1:
                raise ValueError(f"{word!r} is not one word")
        return words


class RepetitionConfig(StageConfig):
    """The repetition rules of Gopher's MassiveText (Rae et al. 2021, table A1)."""

    enabled: bool = Field(False, title="On", description="Apply these rules.")
    max_duplicate_lines: Bound = share(0.30, "Most repeated lines", "`repetition_lines`, a share of lines.")
    max_duplicate_paragraphs: Bound = share(
        0.30, "Most repeated paragraphs", "`repetition_paragraphs`, a share of paragraphs."
    )
    max_duplicate_line_characters: Bound = share(
        0.20, "Most characters in repeated lines", "`repetition_line_characters`."
    )
    max_duplicate_paragraph_characters: Bound = share(
        0.20, "Most characters in repeated paragraphs", "`repetition_paragraph_characters`."
    )
    max_top_2_gram: Bound = share(0.20, "Most characters in the top 2-gram", "`repetition_top_2_gram`.")
    max_top_3_gram: Bound = share(0.18, "Most characters in the top 3-gram", "`repetition_top_3_gram`.")
    max_top_4_gram: Bound = share(0.16, "Most characters in the top 4-gram", "`repetition_top_4_gram`.")
    max_duplicate_5_grams: Bound = share(0.15, "Most characters in repeated 5-grams", "`repetition_5_grams`.")
    max_duplicate_6_grams: Bound = share(0.14, "Most characters in repeated 6-grams", "`repetition_6_grams`.")
    max_duplicate_7_grams: Bound = share(0.13, "Most characters in repeated 7-grams", "`repetition_7_grams`.")
    max_duplicate_8_grams: Bound = share(0.12, "Most characters in repeated 8-grams", "`repetition_8_grams`.")
    max_duplicate_9_grams: Bound = share(0.11, "Most characters in repeated 9-grams", "`repetition_9_grams`.")
    max_duplicate_10_grams: Bound = share(0.10, "Most characters in repeated 10-grams", "`repetition_10_grams`.")


class C4Config(StageConfig):
    """The rules of C4 (Raffel et al. 2020, section 2.2; numbers of its published code).

    C4 removes lines, then pages with too little left. Here no text is changed: a line that C4 would remove does not
    count, and a page with too few sentences on the lines that count is dropped.
    """

    enabled: bool = Field(False, title="On", description="Apply these rules.")
    min_sentences: Bound = Field(
        3, ge=0, title="Fewest sentences", description="`c4_sentences`, on the lines that count."
    )
    terminal_punctuation: bool = Field(
        True, title="Lines end in punctuation", description="A line counts only if it ends a sentence or a quotation."
    )
    min_words_per_line: Bound = Field(5, ge=0, title="Fewest words of a line", description="Shorter ones do not count.")
    max_word_length: Bound = Field(
        1_000,
        ge=1,
        title="Longest word",
        description="In characters; a line with a longer one does not count.",
    )
    javascript: bool = Field(True, title="Javascript", description="A line with the word does not count.")
    policies: bool = Field(
        True, title="Policies", description="A line about cookies, privacy policy or terms of use does not count."
    )
    lorem_ipsum: bool = Field(True, title="Lorem ipsum", description="`c4_lorem_ipsum`: no page with these words.")
    curly_bracket: bool = Field(True, title="Curly bracket", description="`c4_curly_bracket`: no page with a `{`.")
    bad_words: tuple[str, ...] = Field(
        (), title="Bad words", description="`c4_bad_words`: no page with one of these words or phrases. Empty: off."
    )

    @field_validator("bad_words")
    @classmethod
    def _have_units(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in phrases:
            if not units(phrase):
                raise ValueError(f"{phrase!r} has no letter and no number")
        return phrases


class FineWebConfig(StageConfig):
    """The rules that FineWeb adds to Gopher's and C4's (Penedo et al. 2024, section 3.6)."""

    enabled: bool = Field(False, title="On", description="Apply these rules.")
    min_punctuated_lines: Bound = share(
        0.12, "Fewest lines ending in punctuation", "`fineweb_punctuated_lines`: dropped at this share or less."
    )
    max_duplicate_line_characters: Bound = share(
        0.1,
        "Most characters in repeated lines",
        "`fineweb_duplicate_line_characters`: dropped at this share or more. The paper's; datatrove's default is .01.",
    )
    max_short_lines: Bound = share(0.67, "Most short lines", "`fineweb_short_lines`: dropped at this share or more.")
    short_line: int = Field(30, ge=1, title="Short line", description="Fewer characters than this.")
    max_newlines_per_word: Bound = Field(
        None,
        ge=0,
        title="Most newlines a word",
        description="`fineweb_newlines`: dropped above. Not in the paper; datatrove's default is .3.",
    )


class HeuristicsConfig(StageConfig):
    """Rules that need no model. They judge every document that is not curated, before the classifier does."""

    gopher: GopherConfig = Field(GopherConfig(), title="Gopher", description="Rae et al. 2021, appendix A.1.1.")
    repetition: RepetitionConfig = Field(
        RepetitionConfig(), title="Repetition", description="Rae et al. 2021, table A1."
    )
    c4: C4Config = Field(C4Config(), title="C4", description="Raffel et al. 2020, section 2.2.")
    fineweb: FineWebConfig = Field(FineWebConfig(), title="FineWeb", description="Penedo et al. 2024, section 3.6.")
    characters_per_word: float = Field(
        1.5,
        ge=1,
        title="Characters a word",
        description="Of scripts without spaces: so many of their characters count as one word of five letters and a "
        "space, in every rule that counts words or measures lines.",
    )

    @property
    def enabled(self) -> bool:
        return self.gopher.enabled or self.repetition.enabled or self.c4.enabled or self.fineweb.enabled
