"""MiniPair, the rendered twin of the paper's datasets, and the small models pretrained on such pictures."""
