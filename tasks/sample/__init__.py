"""sample: several responses of a model to each prompt, to be ranked."""

from tasks.sample.stage import STAGE, SampleConfig

__all__ = ["STAGE", "SampleConfig"]
