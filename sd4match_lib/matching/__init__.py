"""From features to points: correlation, reading points out of score maps, and the loss."""
