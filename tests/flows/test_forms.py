"""The UI's forms: every field is there with title, description, bounds and value, and what is filled in overrides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from prefect.utilities.schema_tools.validation import ValidationError, validate
from pydantic import BaseModel

from artifacts.errors import UserError
from flows.config import Pipeline, PipelineSettings, load_pipeline
from flows.forms import overrides_of, parameters_between, pipeline_form, stage_form
from flows.registry import NODES, Node
from flows.schedules import ScheduleConfig

CONFIGS = ["demo", "public", "commoncrawl", "instructgpt-1.3b"]
# Any whole number is a seed.
UNBOUNDED = {"seed"}


@pytest.fixture(scope="module")
def demo() -> Pipeline:
    return load_pipeline("configs/demo.yaml")


def leaves(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted names and schemas of a form's inputs."""
    for name, inner in schema["properties"].items():
        if inner.get("type") == "object":
            yield from leaves({"properties": {}, **inner}, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


def models(config: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield config
    for info in config.model_fields.values():
        for kind in (info.annotation, *get_args(info.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)


def filled(schema: dict[str, Any]) -> Any:
    """What the UI sends when nobody touches the form: every default."""
    if schema.get("type") == "object" and schema.get("properties"):
        values = {name: filled(inner) for name, inner in schema["properties"].items()}
        return {name: value for name, value in values.items() if value is not None}
    return schema.get("default")


@pytest.mark.parametrize(
    "config", [PipelineSettings, ScheduleConfig, *(node.stage.config for node in NODES)], ids=lambda kind: kind.__name__
)
def test_every_field_of_every_config_has_a_title_a_description_and_bounds(config: type[BaseModel]) -> None:
    poor = []
    for model in models(config):
        schema = model.model_json_schema()["properties"]
        for name, info in model.model_fields.items():
            entry = schema[name]
            if not (info.title and info.description):
                poor.append(f"{model.__name__}.{name}: title or description")
            kinds = [entry, *entry.get("anyOf", ()), *entry.get("prefixItems", ())]
            numbers = [kind for kind in kinds if kind.get("type") in ("integer", "number")]
            if any(not {"minimum", "exclusiveMinimum"} & kind.keys() for kind in numbers) and name not in UNBOUNDED:
                poor.append(f"{model.__name__}.{name}: lower bound")
            if get_origin(info.annotation) is Literal and None in get_args(info.annotation):
                poor.append(f"{model.__name__}.{name}: a choice needs a word for none")
    assert [line for line in poor if line != "ScheduleConfig.interval: lower bound"] == []  # 60 s, by its validator


@pytest.mark.parametrize("name", CONFIGS)
def test_a_form_that_nobody_touches_changes_nothing_and_is_accepted(name: str) -> None:
    pipeline = load_pipeline(f"configs/{name}.yaml")
    form = pipeline_form(pipeline, pipeline.origin, "./store")
    given = filled(form)
    validate(given, form, raise_on_error=True)
    assert given["config"] == pipeline.origin
    sections = {key: value for key, value in given.items() if key not in ("config", "store", "until", "force_from")}
    assert overrides_of(pipeline, sections) == []
    assert set(sections) >= {node.name for node in pipeline.nodes}


@pytest.mark.parametrize("node", NODES, ids=[node.name for node in NODES])
def test_a_stage_form_shows_each_field_as_one_plain_input(node: Node, demo: Pipeline) -> None:
    form = stage_form(demo, node.name, "configs/demo.yaml", "./store")
    validate(filled(form), form, raise_on_error=True)
    inputs = dict(leaves(form))
    assert [name for name, entry in inputs.items() if "type" not in entry and "enum" not in entry] == []
    text = yaml.safe_dump(form)
    assert "$ref" not in text and "anyOf" not in text and "outside_recipe" not in text
    assert all(entry["title"] and entry["description"] for name, entry in inputs.items() if "weights." not in name)
    assert {name.partition(".")[2] for name in inputs if name.startswith("inputs.")} == set(node.feeds)
    for model, where in ((node.stage.config, "settings."),):
        for name, info in model.model_fields.items():
            if get_origin(info.annotation) is Literal:
                assert inputs[where + name]["enum"] == list(get_args(info.annotation))


def test_defaults_are_the_files_values_and_choices_are_this_pipelines(demo: Pipeline) -> None:
    form = pipeline_form(demo, "configs/demo.yaml", "s3://bucket/store")["properties"]
    assert form["store"]["default"] == "s3://bucket/store"
    assert form["quality"]["properties"]["alpha"]["default"] == 1.0
    assert form["quality"]["properties"]["alpha"]["exclusiveMinimum"] == 0
    assert form["ppo"]["properties"]["launcher"]["properties"]["starter"]["enum"] == ["spawn", "torchrun", "none"]
    assert form["until"]["enum"] == ["all", *(node.name for node in demo.nodes)]
    assert form["force_from"]["enum"] == ["none", *(node.name for node in demo.nodes)]
    assert form["runner"]["enum"] == ["threads", "processes", "ray", "dask"]
    # A field that may be empty, and is: a plain input without a default.
    assert form["pretrain"]["properties"]["steps"]["type"] == "integer"
    assert "default" not in form["pretrain"]["properties"]["steps"]
    assert form["mix"]["properties"]["weights"]["properties"]["topics"]["default"] == 0.2
    alone = load_pipeline("configs/demo.yaml", ["ppo=null", "ppo_without_ptx=null", "evaluate=null"])
    assert "ppo" not in pipeline_form(alone, "x", "y")["properties"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"quality": {"alpha": -1}}, "quality.alpha"),
        ({"ppo": {"launcher": {"processes": 0}}}, "ppo.launcher.processes"),
        ({"sft": {"betas": [0.9, 1.5]}}, "sft.betas[1]"),
        ({"mix": {"weights": {"crawl": 0}}}, "mix.weights.crawl"),
        ({"label": {"annotator": "nobody"}}, "label.annotator"),
        ({"until": "nothing"}, "until"),
        ({"quality": {"alpa": 2}}, "quality"),
    ],
)
def test_the_server_refuses_a_bad_value_with_its_field_path(demo: Pipeline, given: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        validate(given, pipeline_form(demo, "configs/demo.yaml", "./store"), raise_on_error=True)
    assert f"field {field!r}" in str(refused.value)


@pytest.mark.parametrize("text", ["latest", "dedup@0123456789abcdef", "dedup@01", "dedup@latest,ingest@ab", "0123"])
def test_an_input_is_latest_or_references(demo: Pipeline, text: str) -> None:
    form = stage_form(demo, "quality", "configs/demo.yaml", "./store")
    validate({"inputs": {"documents": text}}, form, raise_on_error=True)
    for bad in (f"{text},", f" {text}", "the newest", "dedup@", ""):
        with pytest.raises(ValidationError, match=r"inputs\.documents"):
            validate({"inputs": {"documents": bad}}, form, raise_on_error=True)


def test_only_what_differs_becomes_an_override(demo: Pipeline) -> None:
    given = {
        "seed": 3,
        "workers": None,
        "dedup": {"bands": 14, "threshold": 0.75},
        "reward": {"lr": 1e-5},
        "mix": {"weights": {"crawl": 1}},
        "quality": {"positives": {"sources": ["topics", "books"]}},
    }
    found = overrides_of(demo, given)
    assert found == [
        "seed=3",
        "dedup.threshold=0.75",
        "reward.lr=1.0e-05",
        "mix.weights={crawl: 1}",
        "quality.positives.sources=[topics, books]",
    ]
    changed = demo.overridden(found)
    assert changed.config("reward").lr == 1e-5  # type: ignore[attr-defined]
    assert changed.config("mix").weights == {"crawl": 1.0}  # type: ignore[attr-defined]


def test_an_input_that_was_emptied_is_null_and_a_part_of_a_section_is_not(demo: Pipeline) -> None:
    whole = filled(pipeline_form(demo, "configs/demo.yaml", "./store")["properties"]["sample"])
    assert overrides_of(demo, {"sample": {key: whole[key] for key in whole if key != "prompts"}}) == [
        "sample.prompts=null"
    ]
    assert overrides_of(demo, {"sample": {"responses": 5}}) == ["sample.responses=5"]


def test_files_stay_where_the_config_names_them(tmp_path: Path) -> None:
    path = tmp_path / "files.yaml"
    path.write_text(yaml.safe_dump({"demonstrations": {}, "sft": {"data": ["a.jsonl"]}}))
    pipeline = load_pipeline(str(path))
    assert overrides_of(pipeline, {"demonstrations": {"data": ["b.jsonl"]}}) == ["sft.data=[b.jsonl]"]
    assert pipeline.overridden(["sft.data=[b.jsonl]"]).config("demonstrations").data == ["b.jsonl"]  # type: ignore[attr-defined]


def test_our_own_check_names_file_and_field(demo: Pipeline) -> None:
    with pytest.raises(UserError) as refused:
        demo.overridden(overrides_of(demo, {"quality": {"alpha": -1}}))
    assert str(refused.value) == "configs/demo.yaml: quality.alpha: Input should be greater than 0 (got -1)"


def test_parameters_that_lead_from_one_config_to_another(demo: Pipeline) -> None:
    form = pipeline_form(demo, "configs/demo.yaml", "./store")
    for overrides in (["ppo.beta=0.5", "mix.weights.crawl=0.5", "seed=4"], ["sample.prompts=null"], []):
        after = demo.overridden(overrides)
        found = parameters_between(demo, after)
        validate(found, form, raise_on_error=True)
        again = demo.overridden(overrides_of(demo, found))
        assert again.settings == after.settings
    assert parameters_between(demo, demo) == {}
