"""The process that trains the classifier: `python train.py job.json` (see `tasks.quality.classifier`)."""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main(job_file: str) -> None:
    """Train with the settings of the job and save the model. Exits with a message if its numbers are not finite."""
    import fasttext
    import numpy as np

    if sys.platform == "linux":  # no orphan that trains on after its parent was killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf8"))
    try:
        model = fasttext.train_supervised(**job["settings"], loss="softmax", thread=1, verbose=0)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"fastText: {error}")
    if not (np.isfinite(model.get_input_matrix()).all() and np.isfinite(model.get_output_matrix()).all()):
        sys.exit("fastText: the trained model holds numbers that are not finite")
    model.save_model(job["model"])


if __name__ == "__main__":
    main(sys.argv[1])
