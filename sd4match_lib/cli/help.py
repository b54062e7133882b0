"""Examples below a command's help."""

from __future__ import annotations

import argparse
from typing import Any


def examples(*lines: str) -> dict[str, Any]:
    """Return the options of `add_parser` that put examples below the help.

    Args:
        *lines: commands as one would type them.
    """
    text = "\n".join(["examples:", *(f"  {line}" for line in lines)])
    return {"epilog": text, "formatter_class": argparse.RawDescriptionHelpFormatter}
