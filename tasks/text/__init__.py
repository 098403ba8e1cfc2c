"""What the data stages share: normalisation, word and CJK segmentation, shingles, hashing."""
