"""Errors that are meant for people: each says what was wrong, where, and what to do."""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong (a path, a field, a reference). The command line exits with 2."""


class RunError(Exception):
    """A check or a run failed for a reason that its message explains. The command line exits with 1."""


class Waiting(RunError):
    """The run cannot go on before people have done something; nothing has failed. The command line exits with 1."""


class AccountError(RunError):
    """A stage could not account for its rows: rows in differ from kept + dropped + failed."""
