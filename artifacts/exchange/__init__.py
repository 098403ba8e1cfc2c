"""Artifacts in other people's formats: dataset and model cards, Hugging Face folders, Croissant, OpenLineage."""
