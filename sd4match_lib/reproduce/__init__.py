"""Running the notebooks in batch, and checking before that everything is there."""
