"""Files, paths, progress and fingerprints: what every other folder may use."""
