"""What the fork server of attempts does once: imports, tables, the language model, the loading of compiled functions.

An attempt is forked from it and begins with all that, so that a test's moments fall on stages at work, not on imports.
It stops before the tokenizer: a fork of a process that has trained one would train without its threads.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from artifacts.store import Artifact, Store
from flows.config import load_pipeline
from flows.planning import walk
from flows.registry import BY_NAME
from tasks.execution import execute
from tests.flows.test_pipeline import write_config
from tests.warcs import CRAWL, CURATED, write_warc


def warm_up() -> None:
    """Run the stages up to decontaminate on a few pages, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_warc(folder / "a.warc.gz", CRAWL, 16, 0, "crawl.example")
        write_warc(folder / "b.warc.gz", CURATED, 16, 1, "curated.example")
        (folder / "evaluation.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n')
        config = write_config(folder, decontaminate={"against": [str(folder / "evaluation.jsonl")]})
        pipeline, store = load_pipeline(config), Store(folder / "store")

        def call(name: str, inputs: dict[str, list[Artifact]], _: bool) -> Artifact:
            return execute(BY_NAME[name].stage, pipeline.config(name), inputs, store).artifact

        walk(pipeline, store, "decontaminate", None, call)


warm_up()
