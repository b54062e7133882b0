"""Data sets of picture pairs with corresponding points: the paper's three, and your own."""
