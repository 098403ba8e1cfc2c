"""The report of a run or an artifact: one HTML file that needs nothing else."""

from flows.report.write import write_report

__all__ = ["write_report"]
