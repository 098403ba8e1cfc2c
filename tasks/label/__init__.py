"""label: rankings of answers, imported from people's preference files or given by a simulated annotator."""

from tasks.label.stage import STAGE, LabelConfig

__all__ = ["STAGE", "LabelConfig"]
