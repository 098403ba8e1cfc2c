"""The forms of the UI: a JSON schema a deployment, made from the configs, and what a filled form overrides.

Prefect's UI draws one input a property of the schema. The schema is flat JSON schema without references, and the
defaults are those of the YAML file. A field that may be empty is shown as its plain type: Prefect's server takes null
for every property without a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from flows.config import COMMON, SHARED_DATA, Pipeline, PipelineSettings, RunnerName
from flows.registry import BY_NAME

Schema = dict[str, Any]

LATEST = "latest"
REFERENCE = r"([a-z_]+@)?[0-9a-f]{1,16}|[a-z_]+@latest"
EVERY, NONE = "all", "none"


def pipeline_form(pipeline: Pipeline, config: str, store_url: str) -> Schema:
    """The form of a pipeline's deployment: where and how it runs, then a group a stage with every field of it."""
    names = [node.name for node in pipeline.nodes]
    return _form(
        {
            **_common(pipeline, config, store_url),
            "until": _choice("Until", "Stop after this stage", [EVERY, *names], EVERY),
            "force_from": _choice("Build again from", "Build this stage and all after it", [NONE, *names], NONE),
            **{name: section_schema(pipeline, name) for name in names},
        }
    )


def stage_form(pipeline: Pipeline, name: str, config: str, store_url: str) -> Schema:
    """The form of a stage's deployment: its inputs, its section, and whether to build what is there already."""
    node = BY_NAME[name]
    inputs = {
        given: {
            "type": "string",
            "title": given,
            "description": f"latest: what this config has made ({feeder}); else stage@recipe, several with commas",
            "default": LATEST,
            "pattern": rf"^({LATEST}|({REFERENCE})(,({REFERENCE}))*)$",
        }
        for given, feeder in ((key, " or ".join(node.feeds[key])) for key in node.stage.reads if key in node.feeds)
    }
    force = {
        "type": "boolean",
        "title": "Build again",
        "description": "Build it even if it is there",
        "default": False,
    }
    group = {"inputs": _group("Inputs", "Upstream artifacts", inputs)} if inputs else {}
    return _form(
        {
            "stage": _choice("Stage", "The stage that runs", [name], name),
            **_common(pipeline, config, store_url),
            "force": force,
            **group,
            "settings": {**section_schema(pipeline, name), "title": f"Settings of {name}"},
        }
    )


def section_schema(pipeline: Pipeline, name: str) -> Schema:
    """The schema of a stage's section, with the pipeline's values as defaults."""
    config = pipeline.config(name)
    found = _model_schema(type(config), config.model_dump(mode="json"))
    return {**found, "title": name}


def overrides_of(pipeline: Pipeline, given: Mapping[str, Any]) -> list[str]:
    """What a filled form changes, as `--set` takes it: the fields whose value is not the config's.

    Fields that are not given are left as they are, but for one case: the UI leaves an input that was emptied out. So in
    a group that gives every other field, one that may be empty and is missing was emptied. Nothing is checked here:
    loading the config with the overrides does.
    """
    found = []
    for name, value in given.items():
        if name in BY_NAME:
            config = pipeline.config(name)
            found += _changes(_with_emptied(value, config), config.model_dump(mode="json"), name)
        elif value is not None and value != getattr(pipeline.settings, name):
            found.append((name, value))
    return [f"{_home(pipeline, path)}={as_yaml(value)}" for path, value in found]


def parameters_between(before: Pipeline, after: Pipeline) -> dict[str, Any]:
    """The parameters of a pipeline's deployment that make `after` of `before`."""
    found = {key: value for key in COMMON if (value := getattr(after.settings, key)) != getattr(before.settings, key)}
    for node in before.nodes:
        old, new = (pipeline.config(node.name).model_dump(mode="json") for pipeline in (before, after))
        changes = _changes(new, old, node.name)
        if any(value is None for _, value in changes):
            found[node.name] = _without_null(new)  # the server takes no null for a field with a default
            continue
        for path, value in changes:
            *parents, last = path.split(".")
            target = found
            for parent in parents:
                target = target.setdefault(parent, {})
            target[last] = value
    return found


def _with_emptied(value: Any, config: BaseModel) -> Any:
    """A group's values with null for the inputs that were emptied: see `overrides_of`."""
    if not isinstance(value, Mapping):
        return value
    value = {
        key: _with_emptied(inner, getattr(config, key)) if isinstance(getattr(config, key, None), BaseModel) else inner
        for key, inner in value.items()
    }
    missing = {key for key in type(config).model_fields if getattr(config, key) is not None} - value.keys()
    nullable = {key for key, info in type(config).model_fields.items() if type(None) in get_args(info.annotation)}
    return {**value, **dict.fromkeys(missing)} if missing <= nullable else value


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return value


def as_yaml(value: Any) -> str:
    """A value on one line, as the value of `--set`."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _home(pipeline: Pipeline, path: str) -> str:
    """Where the config's file states a field: files of instructions and preferences may stand under sft and reward."""
    for section, reader in SHARED_DATA:
        if path == f"{reader}.data" and pipeline.states(section, "data"):
            return f"{section}.data"
    return path


def _changes(value: Any, before: Any, path: str) -> list[tuple[str, Any]]:
    """Dotted paths and new values of the fields that differ. A mapping that is a field of its own is one value."""
    if isinstance(value, Mapping) and isinstance(before, Mapping) and not _is_table(path):
        return [
            change
            for key, inner in value.items()
            for change in _changes(inner, before.get(key, _Missing), f"{path}.{key}")
        ]
    return [] if value == before else [(path, value)]


class _Missing:
    """Stands for a field that the config does not know."""


def _is_table(path: str) -> bool:
    """Whether the field is a mapping of its own, not a section: it is overridden as a whole."""
    name, *fields = path.split(".")
    model: Any = BY_NAME[name].config
    for field in fields:
        info = model.model_fields.get(field) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if info is None:
            return False
        model = info.annotation
    return not (isinstance(model, type) and issubclass(model, BaseModel))


def _common(pipeline: Pipeline, config: str, store_url: str) -> dict[str, Schema]:
    settings = pipeline.settings
    fields = PipelineSettings.model_json_schema()["properties"]
    runners = [*get_args(RunnerName)]
    workers = {"default": settings.workers} if settings.workers else {}
    return {
        "config": _choice("Config", "The file that this form's defaults come from", [config], config),
        "store": {
            "type": "string",
            "title": "Store",
            "description": "Path or URL of the folder of artifacts",
            "default": store_url,
            "minLength": 1,
        },
        "seed": {**fields["seed"], "default": settings.seed},
        "runner": _choice("Runner", fields["runner"]["description"], runners, settings.runner),
        "workers": {
            "type": "integer",
            "minimum": 1,
            "title": "Workers",
            "description": fields["workers"]["description"],
            **workers,
        },
    }


def _form(properties: dict[str, Schema]) -> Schema:
    placed = {name: {**schema, "position": place} for place, (name, schema) in enumerate(properties.items())}
    return {"title": "Parameters", "type": "object", "properties": placed, "additionalProperties": False}


def _group(title: str, description: str, properties: dict[str, Schema]) -> Schema:
    return {**_form(properties), "title": title, "description": description}


def _choice(title: str, description: str, choices: list[str], default: str) -> Schema:
    return {"type": "string", "title": title, "description": description, "enum": choices, "default": default}


def _model_schema(model: type[BaseModel], values: Mapping[str, Any]) -> Schema:
    whole = model.model_json_schema()
    return _placed(_flat(whole, whole.get("$defs", {})), values)


def _placed(schema: Schema, values: Mapping[str, Any]) -> Schema:
    """An object's schema with `values` as defaults, in the order of the fields."""
    properties = {}
    for place, (name, inner) in enumerate(schema["properties"].items()):
        value = values.get(name)
        if inner.get("type") == "object" and inner.get("properties") and isinstance(value, Mapping):
            inner = _placed(inner, value)
        elif value is None:
            inner = {key: entry for key, entry in inner.items() if key != "default"}
        else:
            inner = {**_with_keys(inner, value), "default": value}
        properties[name] = {**inner, "position": place}
    kept = {key: entry for key, entry in schema.items() if key not in ("$defs", "required", "default")}
    return {**kept, "properties": properties}


def _with_keys(schema: Schema, value: Any) -> Schema:
    """A mapping's schema with a property for each key that it has, so that the form shows a field a key."""
    each = schema.get("additionalProperties")
    if not isinstance(value, Mapping) or not isinstance(each, Mapping):
        return schema
    return {**schema, "properties": {key: {**each, "title": key, "default": entry} for key, entry in value.items()}}


def _flat(schema: Any, definitions: Mapping[str, Schema]) -> Any:
    """Without references, without the alternative null, and without what only this program reads."""
    if isinstance(schema, list):
        return [_flat(entry, definitions) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: entry for key, entry in schema.items() if key not in ("$ref", "$defs", "anyOf", "outside_recipe")}
    if "$ref" in schema:
        plain = {**definitions[schema["$ref"].rpartition("/")[2]], **plain}
        return _flat(plain, definitions)
    kinds = [entry for entry in schema.get("anyOf", ()) if entry.get("type") != "null"]
    if len(kinds) == 1:
        return _flat({**kinds[0], **plain}, definitions)
    if kinds:
        plain["anyOf"] = kinds
    if "prefixItems" in plain:  # a pair of numbers: the UI draws lists of one kind
        plain["items"] = plain.pop("prefixItems")[0]
    return {
        key: ({name: _flat(entry, definitions) for name, entry in value.items()} if key == "properties" else value)
        if key in ("properties", "default", "enum")
        else _flat(value, definitions)
        for key, value in plain.items()
    }
