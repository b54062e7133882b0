"""The miniature's tokenizer: CLIP's byte-level BPE, trained on the words that captions and the paper's
prompts use.

Every known word is one token; any other word falls apart into smaller known pieces, down to bytes, as in
CLIP.
"""

import string
from collections import Counter
from itertools import pairwise

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from sd4match_lib.miniature.objects.catalogue import ALL_KINDS
from sd4match_lib.miniature.objects.palette import COLOURS
from sd4match_lib.miniature.pretraining.caption import view_words
from sd4match_lib.miniature.render.style import Place

_TEMPLATES = (
    "a photo of an object the with and from on in seen facing image picture painting drawing "
    "animal vehicle thing plant head tail wing wheel eye leg foot top bottom front back left right "
    "big small two three facing same different by beside near"
)


def known_words() -> list[str]:
    """The words that are one token each, sorted."""
    parts: set[str] = set()
    for index, make in enumerate(ALL_KINDS.values()):
        for draw in range(30):
            parts.update(make(np.random.default_rng([index, draw])).colours)
    views = [view_words(octant * np.pi / 4) for octant in range(8)]
    text = " ".join([*ALL_KINDS, *COLOURS, *parts, *views, *Place, _TEMPLATES])
    return sorted(set(text.split()))


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until each word is one piece.

    The tokenizers library's own trainer breaks ties by hash order: another vocabulary in every process.
    """
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for word in pieces for pair in pairwise(word)):
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        pieces = [_merged(word, best) for word in pieces]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """The word with every occurrence of the pair joined, from the left."""
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def build_tokenizer() -> CLIPTokenizer:
    """Trains the byte-pair merges on the known words and wraps them as a stock CLIP tokenizer, with id 0 as
    padding like SD2-1's.
    """
    merges = _merges(known_words())
    printable = [c for c in string.printable if c in ByteLevel.alphabet()]
    alphabet = ["!", *sorted(set(ByteLevel.alphabet()) - {"!"}, key=lambda c: (c not in printable, c))]
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="!", model_max_length=77)
