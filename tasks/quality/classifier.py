"""Training the fastText classifier, in a process of its own. It is applied by `tasks.quality.scoring`."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artifacts.errors import RunError
from tasks.quality.config import ClassifierConfig
from tasks.text.segment import units

LABEL = "__label__"
CURATED, CRAWL = f"{LABEL}curated", f"{LABEL}crawl"

# glibc fills what malloc returns with the complement of this byte, so with zeros. Blocks from the kernel are zero
# anyway, but a matrix of some 100 kB may come from freed ones (seen as `Encountered NaN`), in spite of an mmap
# threshold of 4096. Blocks of the thread cache are not filled, so there is none.
ZEROED = {
    "MALLOC_PERTURB_": "255",
    "MALLOC_MMAP_THRESHOLD_": "4096",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=255:glibc.malloc.mmap_threshold=4096:glibc.malloc.tcache_count=0",
}

# fastText's own generator needs a seed of 31 bits and not 0.
SEEDS = 2**31 - 1


def line_of(text: str) -> str:
    """The text as fastText reads it: its units (`tasks.text.segment.units`; a character is one in scripts without
    spaces) with a space between, on one line. No unit reads as a label: none has an underscore."""
    return " ".join(units(text))


def passages(text: str, characters: int) -> list[str]:
    """The text cut at white space into as few equal pieces of at most about `characters` as there can be.

    Text without white space near a cut is cut where it stands: a page in Chinese has none.
    """
    pieces = max(1, math.ceil(len(text) / characters))
    cuts, size = [0], len(text) / pieces
    for number in range(1, pieces):
        at = round(number * size)
        space = text.find(" ", at, at + 80)
        cuts.append(space if space >= 0 else at)
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def train(lines: Iterable[str], config: ClassifierConfig, seed: int, work: Path, model: Path) -> None:
    """Train on labelled lines and write `model`: the same bytes for the same lines, config and seed.

    fastText 0.9 with fewer than ten threads leaves nine tenths of its input matrix as the allocator gave it
    (`DenseMatrix::uniform` fills a tenth a thread), and with more than one thread the updates race. So: one thread, in
    a new process whose allocator gives zeros (`ZEROED`).

    Raises:
        RunError: the process failed, or the model is not finite; with its last line of output.
    """
    work.mkdir(parents=True, exist_ok=True)
    text, job = work / "train.txt", work / "job.json"
    with open(text, "w", encoding="utf8") as stream:
        for line in lines:
            stream.write(line + "\n")
    settings: dict[str, Any] = {
        "input": str(text),
        "dim": config.dim,
        "wordNgrams": config.word_ngrams,
        "bucket": config.buckets,
        "epoch": config.epochs,
        "lr": config.lr,
        "minCount": config.min_count,
        "seed": seed % (SEEDS - 1) + 1,
    }
    job.write_text(json.dumps({"settings": settings, "model": str(model)}), encoding="utf8")
    environment = {**os.environ, **ZEROED, "OMP_NUM_THREADS": "1"}
    # By its path, so that it imports fastText and nothing else.
    command = [sys.executable, "-P", str(Path(__file__).with_name("train.py")), str(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode or not model.exists():
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise RunError(f"quality: training the classifier failed (exit {done.returncode}): {last}")
    text.unlink()
