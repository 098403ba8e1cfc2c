"""The stage `ingest`: crawl archives and curated texts to documents, every record accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from artifacts.digest import digest_file
from artifacts.errors import UserError
from artifacts.sources import DataManifest, Source, find_path, load_manifest, resolve_sources
from artifacts.tables import CRAWL, DECISIONS, DOCUMENTS
from tasks.ingest.config import IngestConfig
from tasks.ingest.extractors import check_installed
from tasks.ingest.process import DOCUMENT_ROWS, Job, add_tallies, process_file
from tasks.ingest.text_sources import SPLITS
from tasks.stage import Stage, StageContext, Summary

ROLES = ("crawl", "curated")
FORMATS = ("warc", "text", "zip_text", "jsonl")
BLOCKLIST = "blocklist"
CRAWL_BLOCK = "crawl-block"


def sources(config: IngestConfig) -> list[Source]:
    """The files to read, the manifests that only name a part of the crawl stage's WARC, and the blocklist."""
    found: list[Source] = []
    for entry in config.manifests:
        manifest = load_manifest(entry)
        if manifest.role not in ROLES:
            raise UserError(f"ingest.manifests: {entry} has the role {manifest.role}; ingest reads crawl and curated")
        found += [_crawl_block(entry, manifest)] if manifest.crawl else []
    files = resolve_sources([*config.manifests, *config.paths], "crawl")
    for source in files:
        _check_format(source)
    if config.blocklist is not None:
        try:
            listed = resolve_sources([config.blocklist], BLOCKLIST)
        except UserError as error:
            raise UserError(f"ingest.blocklist: {error}") from error
        files += [replace(source, role=BLOCKLIST) for source in listed]
    return found + files


def _crawl_block(entry: str, manifest: DataManifest) -> Source:
    """The manifest as a source of its own: it decides what is read of the crawl and what its rows are called."""
    path = find_path(entry)
    assert manifest.crawl is not None
    return Source(
        name=path.name,
        path=path,
        sha256=digest_file(path),
        bytes=path.stat().st_size,
        source=manifest.source_name,
        manifest=manifest.name,
        role=CRAWL_BLOCK,
        licence=manifest.licence,
        options=(("part", manifest.crawl.part),),
    )


def _check_format(source: Source) -> None:
    where = source.manifest or source.name
    form = source.option("format", "warc")
    if form not in FORMATS:
        raise UserError(f"{where}: format {form!r} is none that ingest reads ({', '.join(FORMATS)})")
    split = source.option("split", "none")
    if split not in SPLITS:
        raise UserError(f"{where}: options.split {split!r} is none of {', '.join(SPLITS)}")


def run(context: StageContext) -> Summary:
    """Read every source file, in order; see the package's page in docs/."""
    check_installed(context.config.extractor)
    jobs = _jobs(context)
    scratch = context.work / "rows"
    scratch.mkdir(parents=True, exist_ok=True)
    for partial in scratch.glob(".*"):  # of an attempt that was killed
        partial.unlink(missing_ok=True)
    jobs = [replace(job, scratch=str(scratch)) for job in jobs]
    collector = _Collector(context, Counter(), {}, set())
    totals: dict[str, Counter[str]] = {}
    for spilled in context.map_with_progress(process_file, jobs, "reading files"):
        add_tallies(totals, spilled.tallies)
        collector.add(Path(spilled.file.path))
    if not collector.counts["rows_in"]:
        names = ", ".join(job.name for job in jobs[:5])
        raise UserError(f"ingest: the crawl is empty: no response, resource or conversion record in {names}")
    metrics = {name: dict(sorted(counts.items())) for name, counts in sorted(totals.items())}
    metrics["documents_by_source"] = dict(sorted(collector.by_source.items()))
    counts = collector.counts
    return Summary(
        rows_in=counts["rows_in"],
        kept=counts["kept"],
        dropped=counts["rows_in"] - counts["kept"] - counts["failed"],
        failed=counts["failed"],
        metrics={**metrics, "characters": counts["characters"], "files": len(jobs)},
    )


def _jobs(context: StageContext) -> list[Job]:
    blocked = tuple(str(source.path) for source in context.sources if source.role == BLOCKLIST)
    jobs: list[Job] = []

    def add(name: str, path: Path, source: str, options: tuple[tuple[str, object], ...]) -> None:
        jobs.append(Job(len(jobs), name, str(path), source, options, context.config, blocked, ""))

    artifacts = context.inputs.get("crawl", ())
    for source in context.sources:
        if source.role == CRAWL_BLOCK:
            part = source.option("part")
            if not artifacts:
                raise UserError(f"ingest: {source.name} is crawled by the pipeline; give the input 'crawl'")
            for artifact in artifacts:
                path = artifact.local() / "warc" / f"{part}.warc.gz"
                if not path.is_file():
                    raise UserError(f"ingest: {artifact.ref} holds no warc/{part}.warc.gz, which {source.name} names")
                add(path.name, path, source.source, ())
        elif source.role != BLOCKLIST:
            add(source.name, source.path, source.source, source.options)
    if not jobs:
        raise UserError("ingest: nothing to read: name files in ingest.manifests or ingest.paths")
    return jobs


@dataclass
class _Collector:
    """Writes rows to the two tables in the order of the files; a doc_id becomes a document once."""

    context: StageContext
    counts: Counter[str]
    by_source: dict[str, int]
    seen: set[bytes]

    def add(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                self._batch(pa.Table.from_batches([reader.get_batch(number)]))

    def _batch(self, rows: pa.Table) -> None:
        rows = self._once(rows)
        kept = rows.column("kept")
        documents = rows.filter(kept).select(DOCUMENT_ROWS.names)
        self.context.writer("data").write(documents)
        self.context.writer("decisions").write(rows.select(DECISIONS.schema.names))
        self.counts["rows_in"] += rows.num_rows
        self.counts["kept"] += documents.num_rows
        self.counts["failed"] += pc.sum(rows.column("failed")).as_py() or 0
        self.counts["characters"] += pc.sum(pc.utf8_length(documents.column("text"))).as_py() or 0
        for source in documents.column("source").to_pylist():
            self.by_source[source] = self.by_source.get(source, 0) + 1

    def _once(self, rows: pa.Table) -> pa.Table:
        """The rows with every document that was there before turned into a `duplicate_record`."""
        kept = rows.column("kept").to_pylist()
        reason, detail = rows.column("reason").to_pylist(), rows.column("detail").to_pylist()
        changed = False
        for index, doc_id in enumerate(rows.column("doc_id").to_pylist()):
            if not kept[index]:
                continue
            key = bytes.fromhex(doc_id)
            if key in self.seen:
                where = f"{rows.column('warc_file')[index].as_py()} @ {rows.column('warc_offset')[index].as_py()}"
                kept[index], reason[index], detail[index], changed = False, "duplicate_record", where, True
            self.seen.add(key)
        if not changed:
            return rows
        for name, values in (("kept", kept), ("reason", reason), ("detail", detail)):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type))
        return rows


STAGE = Stage(
    name="ingest",
    # 2: what blocklist entries with a port or a password mean; 3: columns robots, licence, licence_by;
    # 4: revisits name their record, damage costs fewer records; 5: lines of boilerplate dropped, too_complex;
    # 6: floods of attributes and formatting that too_complex missed, joiners in endless combining characters,
    # notes of wrong block digests; 7: ruby without its readings
    version=7,
    config=IngestConfig,
    reads={"crawl": CRAWL},
    writes={"data": DOCUMENTS, "decisions": DECISIONS},
    run=run,
    optional=frozenset({"crawl"}),
    sources=sources,
    seeded=False,
    obeys_blocklist=True,
)
