"""The words for categories: SPair-71k's own, which are PASCAL VOC's."""

VOC_CATEGORIES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""In the order of PASCAL VOC's class indices, which begin at 1 (0 is background)."""

SPAIR_CATEGORIES = tuple(name for name in VOC_CATEGORIES if name not in ("diningtable", "sofa"))
"""The 18 categories of SPair-71k."""

VOC_INDEX = {name: index for index, name in enumerate(VOC_CATEGORIES, start=1)}
"""Category -> class index, as in SPair-71k's masks and in PF-Pascal's lists."""

_LONGEST = 80

DEFAULT_CATEGORY = "object"
"""The category of a picture of which nobody said what it shows."""


def category_noun(category: str) -> str:
    """Return the word of a category that a prompt can say: PF-Willow's ``"car(G)"`` is a ``"car"``."""
    return category.partition("(")[0]


def is_category(text: object) -> bool:
    """Return whether something can name a category: a word or two, without "/" and new lines."""
    named = isinstance(text, str) and bool(text.strip()) and text.isprintable() and "/" not in text
    return named and len(str(text)) <= _LONGEST
