"""Names from outside in Markdown."""

from sd4match_lib.errors import one_line


def escape_markdown(text: str) -> str:
    """Keep Markdown from reading names such as ``SD+DINO*``, ``a|b`` or ``![x](y)`` as markup."""
    text = one_line(text.replace("\n", " "))
    for mark in ("\\", "|", "*", "_", "<", "](", "!["):
        text = text.replace(mark, f"\\{mark}")
    return text
