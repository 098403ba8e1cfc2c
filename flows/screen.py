"""What is printed to a person, by rich, which is imported when something is first printed: most of what the commands
answer is JSON, and the import takes as long as a fifth of their start."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class Screen:
    """A console of rich, made of these options when it is first used."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    @cached_property
    def console(self) -> Console:
        from rich.console import Console

        return Console(**self._options)

    def print(self, *what: Any, **options: Any) -> None:
        """As `rich.console.Console.print`."""
        self.console.print(*what, **options)


def plain(text: str, style: str = "") -> Any:
    """A text to print that holds no markup: brackets in a URL are just brackets."""
    from rich.text import Text

    return Text(text, style=style)
