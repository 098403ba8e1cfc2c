"""FineWeb's rules (Penedo et al. 2024, section 3.6) as bounds on measures."""

from __future__ import annotations

from tasks.quality.heuristics.config import FineWebConfig
from tasks.quality.heuristics.rule import Rule, chosen


def rules(config: FineWebConfig) -> list[Rule]:
    """Dropped where few lines end in punctuation, many characters stand in repeated lines, or most lines are short."""
    return chosen(
        ("fineweb_punctuated_lines", "punctuated_lines", "<=", config.min_punctuated_lines),
        (
            "fineweb_duplicate_line_characters",
            "duplicate_line_characters",
            ">=",
            config.max_duplicate_line_characters,
        ),
        ("fineweb_short_lines", "short_lines", ">=", config.max_short_lines),
        ("fineweb_newlines", "newlines_per_word", ">", config.max_newlines_per_word),
    )
