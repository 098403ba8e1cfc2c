"""Which licences an artifact carries, and which rules forbid them."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.audit.licences import Denial, denied, licences_in, licences_of, sources_in, stated
from artifacts.manifest import InputEntry, SourceEntry
from artifacts.store import Artifact, Store
from tests.artifacts.chain import build


@pytest.mark.parametrize(
    ("licence", "rules", "rule"),
    [
        ("CC-BY-NC-4.0", ["cc-by-nc*"], "cc-by-nc*"),
        ("cc by-nc 4.0", ["CC-BY-NC*"], "CC-BY-NC*"),
        ("CC-BY-4.0", ["CC-BY-NC*"], None),
        ("MIT", ["mit"], "mit"),
        ("MIT", ["MI"], None),
        (None, ["unknown"], "unknown"),
        ("  ", ["UNKNOWN"], "UNKNOWN"),
        ("NOASSERTION", ["unknown"], "unknown"),
        (None, ["*"], "*"),
        (None, ["MIT"], None),
        # Expressions: with AND both hold, with OR either can be chosen.
        ("GPL-2.0-only AND Apache-2.0", ["apache-2.0"], "apache-2.0"),
        ("GPL-2.0-only AND Apache-2.0", ["GPL-*"], "GPL-*"),
        ("GPL-2.0-only OR MIT", ["GPL-*"], None),
        ("GPL-2.0-only OR GPL-3.0-only", ["GPL-*"], "GPL-*"),
        ("MIT OR GPL-2.0-only AND Apache-2.0", ["Apache-2.0"], None),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", ["Apache-2.0"], "Apache-2.0"),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", ["GPL*"], None),
        ("(GPL-2.0-only AND MIT", ["GPL*"], "GPL*"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only"], "GPL-2.0-only"),
        ("Terms and Conditions of Example", ["terms-and-*"], "terms-and-*"),
    ],
)
def test_rules(licence: str | None, rules: list[str], rule: str | None) -> None:
    found = denied(licence, rules)
    assert found == (Denial(stated(licence), rule) if rule else None)


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Artifact]:
    return build(Store(tmp_path / "store"))


def test_licences_flow_down_to_the_last_model(made: dict[str, Artifact]) -> None:
    assert made["ingest"].manifest.sources[0].licence is not None
    own = {stated(source.licence) for source in made["ingest"].manifest.sources}
    for stage in ("ingest", "dedup", "mix", "pretrain", "ppo"):
        assert set(licences_of(made[stage])) >= own, stage
    card = (Path(made["pretrain"].path) / "README.md").read_text()
    assert all(f"\n- {licence}\n" in card for licence in own)
    assert licences_of(made["pretrain"]) == sorted(own)


def test_what_is_not_stated_is_unknown_and_blocklists_do_not_count(made: dict[str, Artifact]) -> None:
    manifest = made["pretrain"].manifest.model_copy(deep=True)
    store = made["pretrain"].store
    above = licences_in(store, manifest)

    def source(licence: str | None, role: str) -> SourceEntry:
        return SourceEntry(name="x", role=role, licence=licence, sha256="ab" * 32, bytes=1)

    manifest.sources = [source(None, "blocklist")]
    assert licences_in(store, manifest) == above
    manifest.sources = [source(None, "crawl"), source("mit", "crawl"), source("MIT", "crawl")]
    assert licences_in(store, manifest) == sorted({*above, "mit", "unknown"}, key=str.lower)


def test_a_gap_in_the_chain_is_unknown(made: dict[str, Artifact]) -> None:
    manifest = made["dedup"].manifest.model_copy(deep=True)
    manifest.inputs.append(InputEntry(name="documents", artifact=f"ingest@{'0' * 16}", content="0" * 64))
    assert None in list(sources_in(made["dedup"].store, manifest))
    assert "unknown" in licences_in(made["dedup"].store, manifest)
