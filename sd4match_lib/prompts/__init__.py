"""Prompts: empty, text, the implicit captioner, Single, Class and CPM, behind one interface."""
