"""Questions about what lies in a store, and records that a third party can hold it to.

From Python, `artifacts.lineage` is the way in.
"""
