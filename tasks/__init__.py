"""What each stage does, one folder a stage; only `tasks.stage` knows that a scheduler exists."""
