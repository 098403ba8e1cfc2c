"""What the training stages share: model, engine, launcher, batches, checkpoints, losses."""
