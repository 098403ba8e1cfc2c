"""The sections of a report about training: curves, the evaluation, answers side by side."""

from __future__ import annotations

from typing import Any

from flows.report.collect import Series, Subject, rows, series, smooth
from flows.report.plots import Level, Line, Plot, draw
from flows.report.sections import Table

ROLES = {"pretrained": "pretrained", "sft": "SFT", "ppo": "PPO-ptx", "ppo_without_ptx": "PPO without ptx"}


def _curve(found: Series, name: str, label: str, colour: int) -> list[Line]:
    """The values as they are, pale, and their running mean; values that are few (held-out) with marks instead."""
    if name not in found:
        return []
    steps, values = found[name]
    if len(values) < 24:
        return [Line(label, steps, values, "dots", colour)]
    return [
        Line("", steps, values, "band", colour),
        Line(label, steps, smooth(values, max(2, len(values) // 20)), "line", colour),
    ]


LOSSES = {
    "pretrain": ("Pretraining", "loss (nats a token)"),
    "sft": ("Supervised fine-tuning", "loss (nats a response token)"),
    "reward": ("Reward model", "loss"),
}
PPO_CURVES = {
    "reward": ("Reward", "reward model's score"),
    "kl": ("KL to the SFT model", "nats an episode"),
    "ptx_loss": ("Pretraining loss under ptx", "nats a token"),
    "value_loss": ("Value loss", "loss"),
    "entropy": ("Entropy", "nats a token"),
}


def loss_plot(stage: str, table: Series, metrics: dict[str, Any]) -> Plot | None:
    """The loss curves of pretraining, SFT or the reward model; None if the table has none."""
    title, unit = LOSSES[stage]
    lines = _curve(table, "train_loss", "train", 0) + _curve(table, "heldout_loss", "held out", 1)
    lines += _curve(table, "pretrain_loss", "pretraining rows", 2)
    if not lines:
        return None
    level = {"reward": 0.6931471805599453}.get(stage, metrics.get("uniform_loss"))
    name = "a coin's (ln 2)" if stage == "reward" else "uniform"
    levels = [Level(f"{name}: {level:.3g}", level)] if isinstance(level, float) else []
    return _plot(f"{title}: loss", unit, lines, levels)


def ppo_plots(runs: list[tuple[str, Series, int]]) -> list[Plot]:
    """Reward, KL and the losses of one or more PPO stages over their steps; `runs` are (label, table, colour)."""
    plots = []
    for name, (title, unit) in PPO_CURVES.items():
        lines = [line for label, table, colour in runs for line in _curve(table, name, label, colour)]
        if lines:
            plots.append(_plot(title, unit, lines, []))
    return plots


def _plot(title: str, unit: str, lines: list[Line], levels: list[Level]) -> Plot:
    return Plot(title, _ends(lines), "optimizer step", unit, lines, levels)


def losses(subject: Subject) -> list[Table]:
    """Loss curves of pretraining, SFT and the reward model, as far as they were run."""
    found = []
    for stage, (title, _) in LOSSES.items():
        metrics = subject.metrics(stage)
        plot = loss_plot(stage, series(subject.stages.get(stage)), metrics)
        if plot is not None:
            drawn = draw(plot)
            found.append({"title": title, "plot": drawn, "describe": plot.describe, "figures": _plain(metrics)})
    return found


def _ends(lines: list[Line]) -> str:
    said = [f"{line.label} from {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines if line.label and len(line.y)]
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if said else ""


def _plain(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """The figures that are single numbers, and shares and means with their intervals."""
    found: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        single = isinstance(value, int | float) and not isinstance(value, bool)
        if single or is_interval(value):
            found.append((name, value))
        elif name.endswith("accuracy") and isinstance(value, dict):
            found += [(f"{name}, {key}", part) for key, part in value.items() if is_interval(part)]
    return found


def is_interval(value: Any) -> bool:
    """Whether it is a figure with an interval, as tasks/training/intervals.py gives them."""
    return isinstance(value, dict) and {"low", "high", "n"} <= set(value) and bool({"mean", "value"} & set(value))


def ppo(subject: Subject) -> Table | None:
    """Reward, KL and pretraining loss over PPO's steps, with and without ptx."""
    runs = [(ROLES[stage], series(subject.stages.get(stage)), n) for n, stage in enumerate(("ppo", "ppo_without_ptx"))]
    runs = [(label, table, colour) for label, table, colour in runs if table]
    if not runs:
        return None
    plots = [{"title": plot.title, "plot": draw(plot), "describe": plot.describe} for plot in ppo_plots(runs)]
    tables = [(ROLES[stage], _plain(subject.metrics(stage))) for stage in ("ppo", "ppo_without_ptx")]
    return {"plots": plots, "figures": [(label, found) for label, found in tables if found]}


def evaluation(subject: Subject) -> Table | None:
    """A row a policy: reward, KL to the SFT model, held-out loss, answer length; and the differences with intervals."""
    metrics = subject.metrics("evaluate")
    if not metrics:
        return None
    policies = []
    for role, label in ROLES.items():
        row = {
            "label": label,
            "reward": metrics.get("reward", {}).get(role),
            "kl": metrics.get("kl", {}).get(role, {}).get("per_answer"),
            "heldout": metrics.get("heldout_loss", {}).get(role),
            "length": metrics.get("length", {}).get(role),
            "ended": metrics.get("ended", {}).get(role),
        }
        if any(value is not None for name, value in row.items() if name != "label"):
            policies.append(row)
    differences = [
        (f"reward, {_difference(name)}", value)
        for name, value in metrics.get("reward", {}).items()
        if name.startswith("difference")
    ]
    for name, value in metrics.get("heldout_loss", {}).get("difference", {}).items():
        left, _, right = name.partition("_minus_")
        differences.append((f"held-out loss, {ROLES.get(left, left)} − {ROLES.get(right, right)}", value))
    choices = [
        {"set": name, **{key: value for key, value in found.items() if key in ("items", "chance")}}
        | {"models": [(ROLES[role], found[role]) for role in ROLES if role in found]}
        for name, found in metrics.get("multiple_choice", {}).items()
    ]
    return {
        "prompts": metrics.get("prompts"),
        "policies": policies,
        "win_rate": metrics.get("win_rate"),
        "differences": differences,
        "choices": choices,
    }


def _difference(name: str) -> str:
    return "PPO without ptx − SFT" if name.endswith("without_ptx") else "PPO-ptx − SFT"


def comparisons(subject: Subject, limit: int = 8) -> list[Table]:
    """Answers of two policies to the same held-out prompts: the first in the table, which are not chosen by result."""
    artifact = subject.stages.get("evaluate")
    if artifact is None:
        return []
    return [
        row | {"policies": [ROLES.get(str(row[f"policy_{side}"]), row[f"policy_{side}"]) for side in "ab"]}
        for row in rows(artifact, "comparisons", limit)
    ]
