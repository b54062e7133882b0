"""How the miniature's models were trained, and what they must show."""
