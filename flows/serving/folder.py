"""The folder in which a run works: relative paths of a config are looked for there, as in the shell of `up`."""

from __future__ import annotations

import os
from pathlib import Path

from artifacts.errors import UserError
from flows.config import ROOT

FOLDER = "CRAWL2CHAT_FOLDER"


def enter(folder: str = "") -> dict[str, str]:
    """A pull step of a deployment: go to CRAWL2CHAT_FOLDER if the worker has it, else to `folder`, else the checkout.

    Raises:
        UserError: CRAWL2CHAT_FOLDER is no folder of this machine.
    """
    named = os.environ.get(FOLDER)
    if named and not Path(named).is_dir():
        raise UserError(f"{FOLDER}={named}: no such folder on this machine")
    chosen = named or (folder if folder and Path(folder).is_dir() else str(ROOT))
    os.chdir(chosen)
    return {"directory": chosen}
