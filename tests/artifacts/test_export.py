"""Exports as their readers open them: datasets, transformers, mlcroissant; and what an export refuses."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import yaml

from artifacts.errors import RunError, UserError
from artifacts.exchange.export import export
from artifacts.graph import Edge, Graph, Node, graph, mermaid
from artifacts.store import Artifact, Store
from artifacts.tables import CONVERSATIONS, DOCUMENTS, METRICS, MODEL, TableKind
from artifacts.urls import address
from tasks.stage import Stage, StageConfig, StageContext, Summary
from tests.artifacts import chain
from tests.support import make_documents, put_table, read_rows, run_stage


class _Tiny(StageConfig):
    lr: float = 0.5


def train(context: StageContext) -> Summary:
    """A model of some thousand weights, saved as the training stages save theirs."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from tests.training_support import make_tokenizer

    torch.manual_seed(3)
    config = GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    folder = context.path("model/config.json").parent
    make_tokenizer(folder)
    GPT2LMHeadModel(config).save_pretrained(folder)
    curve = [{"step": step, "name": "loss", "value": 2.0 - step} for step in range(3)]
    context.writer("data").write(pa.Table.from_pylist(curve, schema=METRICS.schema))
    return Summary(metrics={"final_loss": 0.25, "steps": 3, "reads": []})


TRAINED: dict[str, TableKind] = {"data": METRICS, "model": MODEL}
TINY = Stage("sft", 4, _Tiny, {"documents": DOCUMENTS, "model": MODEL}, TRAINED, train, optional=frozenset({"model"}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A store with the chain up to mix, and a model that was made from another model and from dedup's documents."""
    store = Store(tmp_path_factory.mktemp("export") / "store")
    found = chain.build(store, until="mix")
    base = run_stage(TINY, _Tiny(), store, {"documents": found["dedup"]}).artifact
    found["model"] = run_stage(TINY, _Tiny(lr=0.25), store, {"documents": found["dedup"], "model": base}).artifact
    found["base"] = base
    return found


def plain(value: Any) -> Any:
    """A value that mlcroissant gives, as pyarrow gives it: text decoded, numbers Python's own, field ids cut short."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key.rpartition("/")[2]: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value


def front(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text("utf8").split("---")[1])  # type: ignore[no-any-return]


def test_datasets_loads_every_table_of_a_hugging_face_folder(made: dict[str, Artifact], tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    artifact = made["dedup"]
    done = export(artifact.store, artifact.ref, "hf", tmp_path / "hf")
    assert (done.path, done.linked, done.copied) == (tmp_path / "hf", 2, 0)
    assert get_dataset_config_names(str(done.path)) == ["data", "decisions"]
    for table in ("data", "decisions"):
        loaded = load_dataset(str(done.path), table, cache_dir=str(tmp_path / "cache"))["train"]
        assert loaded.to_list() == read_rows(artifact, table)
    default = load_dataset(str(done.path), cache_dir=str(tmp_path / "cache"))["train"]
    assert default["doc_id"] == [chain.IDS[number] for number in (1, 2, 3, 4)]
    card = (done.path / "README.md").read_text("utf8")
    assert front(done.path)["license"] == "cc0-1.0"
    assert "| made | crawl | CC0-1.0 | 1 | 12 | https://example.org/made.warc.gz |" in card
    assert f"| `{artifact.ref}` | 5 | 4 | 1 | 0 | `{artifact.manifest.content}` |" in card
    assert "- near_duplicate: 1" in card


def test_an_export_holds_no_path_no_link_and_no_host(made: dict[str, Artifact], tmp_path: Path) -> None:
    store = made["dedup"].store
    for to in ("hf", "croissant"):
        done = export(store, made["model"].ref, to, tmp_path / to)
        for path in done.path.rglob("*"):
            assert not path.is_symlink()
            if path.suffix in (".md", ".json") and path.name != "tokenizer.json":
                text = path.read_text("utf8")
                assert store.root not in text and "manifest.json" not in text
                assert made["model"].manifest.run.host not in re.split(r"[^\w-]+", text)


def test_files_are_hard_links_or_copies_on_demand(made: dict[str, Artifact], tmp_path: Path) -> None:
    artifact = made["dedup"]
    linked = export(artifact.store, artifact.ref, "hf", tmp_path / "linked").path / "data/part-00000.parquet"
    assert os.path.samefile(linked, artifact.local() / "data/part-00000.parquet")
    done = export(artifact.store, artifact.ref, "hf", tmp_path / "copied", copy=True)
    copied = done.path / "data/part-00000.parquet"
    assert (done.linked, done.copied) == (0, 2)
    assert not os.path.samefile(copied, linked) and copied.read_bytes() == linked.read_bytes()


def test_transformers_opens_an_exported_model_and_its_card_says_what_it_is(
    made: dict[str, Artifact], tmp_path: Path
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = export(made["model"].store, made["model"].ref, "hf", tmp_path / "model").path
    model, info = AutoModelForCausalLM.from_pretrained(str(folder), output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stored = load_file(made["model"].local() / "model/model.safetensors")
    weights = model.state_dict()
    assert stored and all(weights[name].equal(tensor) for name, tensor in stored.items())
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    assert tokenizer.decode(tokenizer("the cat sat on a mat").input_ids) == "the cat sat on a mat"
    card, base = (folder / "README.md").read_text("utf8"), made["base"].manifest
    assert front(folder)["pipeline_tag"] == "text-generation"
    assert f"- model: `{made['base'].ref}`, content `{base.content}`" in card
    assert "| made | crawl | CC0-1.0 | 1 | 12 |" in card
    assert "| final_loss | 0.25 |" in card and "sft:\n  lr: 0.25" in card


def test_a_tokenizer_lies_on_top_and_another_model_stays_where_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = chain.build(store, until="tokenize")
    folder = export(store, made["tokenize"].ref, "hf", tmp_path / "tokenizer").path
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "decisions", "tokenizer.json"]
    assert (front(folder)["library_name"], "pipeline_tag" in front(folder)) == ("transformers", False)
    judge = Stage("quality", 1, _Tiny, {}, {"data": DOCUMENTS}, _with_classifier)
    folder = export(store, run_stage(judge, _Tiny(), store).artifact.ref, "hf", tmp_path / "judged").path
    assert (folder / "model/classifier.bin").read_bytes() == b"weights"
    assert "library_name" not in front(folder)


def _with_classifier(context: StageContext) -> Summary:
    context.path("model/classifier.bin").write_bytes(b"weights")
    context.writer("data").write(make_documents(["a page"]))
    return Summary(rows_in=1, kept=1, dropped=0, failed=0)


@pytest.mark.parametrize(
    ("name", "table"), [("dedup", "data"), ("dedup", "decisions"), ("mix", "data"), ("model", "data")]
)
def test_mlcroissant_reads_the_same_values(made: dict[str, Artifact], tmp_path: Path, name: str, table: str) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    artifact = made[name]
    folder = export(artifact.store, artifact.ref, "croissant", tmp_path / "c").path
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert (set(issues.errors), set(issues.warnings)) == (set(), set())
    # A column of mlcroissant's that is all null in a list of structs has no entry: none of these tables has one.
    assert [plain(record) for record in dataset.records(table)] == read_rows(artifact, table)


def test_mlcroissant_reads_lists_of_structs_and_fixed_lists(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    store = Store(tmp_path / "store")
    messages = [{"role": "user", "content": "Wie geht's?"}, {"role": "assistant", "content": "好"}]
    rows: list[dict[str, Any]] = [
        {"prompt_id": "a" * 32, "messages": messages, "source": "made", "split": "train"},
        {"prompt_id": "b" * 32, "messages": messages[:1], "source": None, "split": "heldout"},
    ]
    schema = CONVERSATIONS.schema.append(pa.field("pair", pa.list_(pa.uint16(), 2)))
    kind = TableKind("conversations", schema)
    table = pa.Table.from_pylist([row | {"pair": [n, n + 1]} for n, row in enumerate(rows)], schema=schema)
    artifact = put_table(store, kind, table)
    folder = export(store, artifact.ref, "croissant", tmp_path / "c").path
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert [plain(record) for record in dataset.records("data")] == table.to_pylist()
    described = {
        field["name"]: field for field in json.loads((folder / "croissant.json").read_text())["recordSet"][0]["field"]
    }
    assert (described["pair"]["dataType"], described["pair"]["arrayShape"]) == ("cr:UInt16", "2")
    assert [part["dataType"] for part in described["messages"]["subField"]] == ["sc:Text", "sc:Text"]


def test_croissant_states_hashes_licences_and_origin(made: dict[str, Artifact], tmp_path: Path) -> None:
    artifact = made["mix"]
    folder = export(artifact.store, artifact.ref, "croissant", tmp_path / "c").path
    described = json.loads((folder / "croissant.json").read_text("utf8"))
    files = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    assert {entry["contentUrl"] for entry in files} == {"data/part-00000.parquet", "decisions/part-00000.parquet"}
    for entry in files:
        assert entry["sha256"] == hashlib.sha256((folder / entry["contentUrl"]).read_bytes()).hexdigest()
    licence = {"@type": "sc:CreativeWork", "name": "CC0-1.0", "url": "https://spdx.org/licenses/CC0-1.0.html"}
    assert described["license"] == [licence]
    origin = described["prov:wasDerivedFrom"]
    assert [(entry["name"], entry["url"], entry["sha256"]) for entry in origin] == [
        ("made.warc.gz", "https://example.org/made.warc.gz", chain.SHA)
    ]
    used = {entry["identifier"] for entry in described["prov:wasGeneratedBy"]["prov:used"]}
    assert used == {made["quality"].manifest.content, made["tokenize"].manifest.content}
    steps = described["rai:dataPreprocessingProtocol"]
    assert steps[1] == f"dedup ({made['dedup'].recipe}): 5 rows in, 4 kept, 1 dropped, 0 failed (near_duplicate 1)"
    assert described["rai:dataCollectionMissingData"] == "ingest: 1 rows could not be read"


def test_openlineage_export_has_every_artifact_above_in_order(made: dict[str, Artifact], tmp_path: Path) -> None:
    folder = export(made["mix"].store, made["mix"].ref, "openlineage", tmp_path / "events").path
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    stages = ["ingest", "dedup", "quality", "tokenize", "mix"]
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        (stage, state) for stage in stages for state in ("START", "COMPLETE")
    ]
    ends = {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}
    written = {(dataset["namespace"], dataset["name"]) for event in ends.values() for dataset in event["outputs"]}
    for stage in stages[1:]:
        read = {(dataset["namespace"], dataset["name"]) for dataset in ends[stage]["inputs"]}
        assert read and read <= written
    source = ends["ingest"]["inputs"][0]
    assert (source["namespace"], source["name"]) == ("https://example.org", "made.warc.gz")
    assert source["facets"]["version"]["datasetVersion"] == f"sha256:{chain.SHA}"
    tags = {tag["key"]: tag["value"] for tag in source["facets"]["tags"]["tags"]}
    assert (tags["licence"], tags["role"]) == ("CC0-1.0", "crawl")


def test_an_address_holds_no_secret_and_a_path_is_none() -> None:
    whole = "https://user:hunter22@data.example:8443/a/b.gz?X-Amz-Signature=hunter22#hunter22"
    assert address(whole) == "https://data.example:8443/a/b.gz"
    assert [address(path) for path in ("", "a/b.gz", "/data/b.gz", "file:///data/b.gz")] == [None] * 4


def test_a_folder_that_is_not_empty_is_replaced_only_by_force(made: dict[str, Artifact], tmp_path: Path) -> None:
    artifact, target = made["dedup"], tmp_path / "out"
    (target / "old").mkdir(parents=True)
    with pytest.raises(UserError, match="not empty"):
        export(artifact.store, artifact.ref, "hf", target)
    assert [path.name for path in target.iterdir()] == ["old"]
    export(artifact.store, artifact.ref, "hf", target, force=True)
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "data", "decisions"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_exported_is_said_and_leaves_nothing(made: dict[str, Artifact], tmp_path: Path) -> None:
    store, ref = made["dedup"].store, made["dedup"].ref
    (tmp_path / "file").write_text("")
    wrong = [
        ("onnx", tmp_path / "a", "one of hf, croissant, openlineage"),
        ("hf", tmp_path / "file", "a file of that name"),
        ("hf", Path(store.root) / "dedup" / "out", "lies in the store"),
        ("hf", Path(store.root).parent, "not empty"),
    ]
    for to, folder, message in wrong:
        with pytest.raises(UserError, match=message):
            export(store, ref, to, folder)
    with pytest.raises(UserError, match="holds the store"):
        export(store, ref, "hf", Path(store.root).parent, force=True)
    with pytest.raises(UserError, match="no such artifact"):
        export(store, "dedup@ffff", "hf", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_file_stops_an_export_and_keeps_what_was_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    artifact = chain.build(store, until="ingest")["ingest"]
    (artifact.local() / "decisions/part-00000.parquet").unlink()
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("kept")
    with pytest.raises(RunError, match=r"decisions/part-00000\.parquet: missing"):
        export(store, artifact.ref, "hf", target, force=True)
    assert (target / "old").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


@pytest.mark.parametrize("to", ["hf", "croissant", "openlineage"])
def test_a_remote_store_exports_checked_copies(tmp_path: Path, to: str) -> None:
    store = Store(f"memory://export-{uuid.uuid4().hex}")
    artifact = chain.build(store, until="ingest")["ingest"]
    done = export(store, artifact.ref, to, tmp_path / "out")
    assert done.linked == 0
    if to == "openlineage":
        assert len((done.path / "events.jsonl").read_text().splitlines()) == 2
        return
    assert done.copied == 2
    name = "data/part-00000.parquet"
    assert hashlib.sha256((done.path / name).read_bytes()).hexdigest() == artifact.manifest.files[name].sha256
    held = f"{store.root}/{artifact.folder}/decisions/part-00000.parquet"
    fsspec.filesystem("memory").pipe_file(held, store.fs.cat_file(held)[:-1] + b"?")
    with pytest.raises(RunError, match="not what its manifest says"):
        export(store, artifact.ref, "hf", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_commands_print_one_object(made: dict[str, Artifact], tmp_path: Path) -> None:
    store = made["mix"].store

    def said(*words: str, code: int = 0) -> tuple[str, str]:
        command = [sys.executable, "-m", "flows.cli", *words, "--store", store.url]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert result.returncode == code, result.stderr
        return result.stdout, result.stderr

    out, _ = said("export", made["mix"].ref, "--to", "hf", str(tmp_path / "x"), "--json")
    assert json.loads(out) == {"path": str(tmp_path / "x"), "linked": 2, "copied": 0}
    _, problem = said("export", made["mix"].ref, "--to", "hf", str(tmp_path / "x"), code=2)
    assert "not empty (--force replaces it)" in problem
    shown = json.loads(said("lineage", made["dedup"].ref, "--json")[0])
    assert shown == graph(store, made["dedup"].ref).as_json()
    focus = [node["artifact"] for node in shown["nodes"] if node["focus"]]
    assert focus == [made["dedup"].ref]
    assert [node["licence"] for node in shown["nodes"] if node["kind"] == "source"] == ["CC0-1.0"]
    assert said("lineage", made["dedup"].ref, "--mermaid")[0].startswith("flowchart TD\n")
    lines = said("lineage", made["dedup"].ref)[0].splitlines()
    assert f">>>    {made['dedup'].ref}" in "\n".join(lines) and lines[0].split() == [
        "above",
        "made",
        "source,",
        "licence",
        "CC0-1.0",
    ]
    events = said("lineage", made["dedup"].ref, "--openlineage")[0].splitlines()
    assert {json.loads(line)["job"]["name"] for line in events} == {
        "ingest",
        "dedup",
        "quality",
        "tokenize",
        "mix",
        "sft",
    }


def test_mermaid_labels_keep_every_character() -> None:
    drawn = mermaid(Graph([Node("a", 'end ["x"] <b> & #1;\nline', "artifact")], [Edge("a", "a", 'q"|')]))
    assert drawn == (
        'flowchart TD\n    n0["end [#quot;x#quot;] #lt;b#gt; #amp; #35;1;<br/>line"]\n    n0 -->|"q#quot;|"| n0\n'
    )
