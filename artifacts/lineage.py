"""Questions about lineage, for Python: what the audit commands answer (docs/lineage.md).

They are told from manifests and Parquet files alone; nothing here knows a stage by its name. The commands import the
modules themselves: each needs only its own.
"""

from __future__ import annotations

from artifacts.audit.diff import diff
from artifacts.audit.questions import trace, why
from artifacts.audit.takedown import takedown
from artifacts.audit.verify import verify
from artifacts.exchange.export import Exported, export
from artifacts.graph import Edge, Graph, Node, graph, mermaid

__all__ = [
    "Edge",
    "Exported",
    "Graph",
    "Node",
    "diff",
    "export",
    "graph",
    "mermaid",
    "takedown",
    "trace",
    "verify",
    "why",
]
