"""MiniPair on disk, in the layouts of the real datasets."""
