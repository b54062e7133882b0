"""What an experiment is: names, the profile's schema, and reading it from TOML."""
