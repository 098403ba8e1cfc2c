"""datatrove's four minhash steps over a folder of Parquet files, in one process; prints what they took as JSON.

    python benchmarks/dedup/peer.py DOCUMENTS OUTPUT

Its defaults are FineWeb's, and ours: 14 buckets of 8 hashes over word 5-grams. Imports are not counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import datatrove.utils.hashes.xxhash as hashes
import xxhash
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger


def _cpu() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main(documents: Path, output: Path) -> None:
    """Run the steps one after the other."""
    logger.remove()
    # datatrove 0.10.1 hands xxhash a str, which xxhash 4 takes no longer.
    hashes.xxhash64 = lambda data: xxhash.xxh64_intdigest(data.encode())
    config = MinhashConfig()

    def reader() -> ParquetReader:
        return ParquetReader(str(documents), text_key="text", id_key="doc_id")

    def signature() -> list[object]:
        return [reader(), MinhashDedupSignature(str(output / "signatures"), config)]

    def buckets() -> list[object]:
        return [MinhashDedupBuckets(str(output / "signatures"), str(output / "buckets"), config=config)]

    def cluster() -> list[object]:
        return [MinhashDedupCluster(str(output / "buckets"), str(output / "remove"), config)]

    def keep() -> list[object]:
        writer = ParquetWriter(str(output / "kept"), compression="zstd")
        return [reader(), MinhashDedupFilter(str(output / "remove")), writer]

    # One task a bucket in the second step, as datatrove asks for.
    steps: list[tuple[str, int, Callable[[], list[object]]]] = [
        ("signature", 1, signature),
        ("buckets", config.num_buckets, buckets),
        ("cluster", 1, cluster),
        ("filter", 1, keep),
    ]
    took = {}
    for name, tasks, pipeline in steps:
        wall, cpu = time.perf_counter(), _cpu()
        LocalPipelineExecutor(pipeline(), tasks=tasks, workers=1, logging_dir=str(output / "logs" / name)).run()
        took[name] = {"wall": time.perf_counter() - wall, "cpu": _cpu() - cpu}
    sys.stdout.write(json.dumps(took) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
