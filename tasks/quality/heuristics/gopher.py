"""Gopher's rules (Rae et al. 2021, appendix A.1.1 and table A1) as bounds on measures."""

from __future__ import annotations

from tasks.quality.heuristics.config import GopherConfig, RepetitionConfig
from tasks.quality.heuristics.rule import Rule, chosen


def quality_rules(config: GopherConfig) -> list[Rule]:
    """Words between 50 and 100,000, of 3 to 10 letters on average; at most one hash sign or ellipsis in ten words; not
    more than 90% of lines with a bullet or 30% ending in an ellipsis; 80% of words with a letter; two stop words."""
    return chosen(
        ("gopher_min_words", "words", "<", config.min_words),
        ("gopher_max_words", "words", ">", config.max_words),
        ("gopher_mean_word_length", "mean_word_length", "<", config.min_mean_word_length),
        ("gopher_mean_word_length", "mean_word_length", ">", config.max_mean_word_length),
        ("gopher_hash_ratio", "hash_ratio", ">", config.max_hash_ratio),
        ("gopher_ellipsis_ratio", "ellipsis_ratio", ">", config.max_ellipsis_ratio),
        ("gopher_bullet_lines", "bullet_lines", ">", config.max_bullet_lines),
        ("gopher_ellipsis_lines", "ellipsis_lines", ">", config.max_ellipsis_lines),
        ("gopher_alphabetic_words", "alphabetic_words", "<", config.min_alphabetic_words),
        ("gopher_stop_words", "stop_words", "<", config.min_stop_words),
    )


def repetition_rules(config: RepetitionConfig) -> list[Rule]:
    """Table A1: repeated lines and paragraphs, the top 2-, 3- and 4-gram, repeated 5- to 10-grams."""
    return chosen(
        ("repetition_lines", "duplicate_lines", ">", config.max_duplicate_lines),
        ("repetition_paragraphs", "duplicate_paragraphs", ">", config.max_duplicate_paragraphs),
        ("repetition_line_characters", "duplicate_line_characters", ">", config.max_duplicate_line_characters),
        (
            "repetition_paragraph_characters",
            "duplicate_paragraph_characters",
            ">",
            config.max_duplicate_paragraph_characters,
        ),
        *((f"repetition_top_{n}_gram", f"top_{n}_gram", ">", getattr(config, f"max_top_{n}_gram")) for n in (2, 3, 4)),
        *(
            (f"repetition_{n}_grams", f"duplicate_{n}_grams", ">", getattr(config, f"max_duplicate_{n}_grams"))
            for n in range(5, 11)
        ),
    )
