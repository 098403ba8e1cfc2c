"""What `dedup_stage.py` measures with: documents with planted duplicates, the peer, and memory of process trees."""
