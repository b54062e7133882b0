"""Data sets of picture pairs with corresponding points."""
