"""The config section `ingest`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.stage import StageConfig, outside_recipe


class IngestConfig(StageConfig):
    """What to read and which documents to keep. The files themselves enter the recipe by their content."""

    manifests: list[str] = outside_recipe(
        default_factory=list,
        title="Data manifests",
        description="YAML files that name sources by hash (role crawl or curated)",
    )
    paths: list[str] = outside_recipe(
        default_factory=list,
        title="Paths",
        description="WARC, WET or ARC files: paths, globs or URLs; gzip, LZ4 or plain",
    )
    blocklist: str | None = outside_recipe(
        None,
        title="Blocklist",
        description="File of URLs, hosts or doc_ids that must not be read, one a line, # for comments",
    )
    languages: list[str] = Field(
        default_factory=list, title="Languages", description="ISO 639-1 codes to keep; empty keeps all"
    )
    min_lang_score: float = Field(
        0.0, ge=0, le=1, title="Least language score", description="Probability that a kept language must reach"
    )
    min_chars: int = Field(1, ge=1, title="Least characters", description="Shorter texts are dropped as too_short")
    max_record_bytes: int = Field(
        33_554_432,
        ge=1_024,
        title="Most bytes",
        description="Larger records, and bodies that are larger once decoded, are dropped as too_large",
    )
    main_content: bool = Field(
        True, title="Main content", description="Leave out navigation, footers and the like of HTML pages"
    )
    extractor: Literal["resiliparse", "trafilatura"] = Field(
        "resiliparse",
        title="Extractor",
        description="What takes the main content from HTML; trafilatura is slower and must be installed",
    )
    skip_elements: list[str] = Field(
        default_factory=list, title="Skip elements", description="CSS selectors of HTML elements to leave out"
    )
    robots: Literal["record", "drop"] = Field(
        "record",
        title="Robots directives",
        description="drop: leave out pages that say noindex or noai; record: keep them, with what they say",
    )

    @model_validator(mode="after")
    def _extractor(self) -> IngestConfig:
        if self.extractor == "trafilatura" and (self.skip_elements or not self.main_content):
            raise ValueError("extractor trafilatura knows neither skip_elements nor main_content: false")
        return self

    @field_validator("languages")
    @classmethod
    def _codes(cls, value: list[str]) -> list[str]:
        for code in value:
            if not (code.isascii() and code.isalpha() and code.islower() and len(code) == 2):
                raise ValueError(f"{code!r} is no ISO 639-1 code (en, de, zh, …)")
        # Order and repetition change no result, so they must change no recipe.
        return sorted(set(value))
