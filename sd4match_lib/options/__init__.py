"""What the field adds to matching, each off by default and in a file of its own; the paper uses none."""

from sd4match_lib.options.choices import MatchOptions

__all__ = ["MatchOptions"]
