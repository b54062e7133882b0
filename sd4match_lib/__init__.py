"""SD4Match, reproduced: learned prompts that make Stable Diffusion match points between pictures.

The package follows the way of the data: ``data`` -> ``features`` (which need a prompt) -> ``matching`` ->
``pck`` -> ``report``. Importing it loads nothing heavy and changes nothing; the README says where to begin.
"""

__version__ = "0.1.0"
