"""Text as token ids: loading a tokenizer, encoding, and how many bytes of text each token stands for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer, pre_tokenizers

from artifacts.errors import UserError
from tasks.training.chat_format import END

# Texts encoded at a time: some tokenizers' encodings take a hundred bytes a token until they are read out.
TEXTS_A_BATCH = 256


def read_tokenizer(path: str) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, for encoding documents: nothing is cut, padded or added, and text that
    spells a special token stays text (a page that says `<|endoftext|>` ends no document).

    Raises:
        UserError: there is no such file, or it is no tokenizer.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such tokenizer file (a folder with a tokenizer.json, or that file)")
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path}: not a tokenizer that the library `tokenizers` reads: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


@lru_cache(maxsize=2)
def load_tokenizer(path: str) -> Tokenizer:
    """`read_tokenizer`, once a process: for tokenizers of artifacts, whose files never change."""
    return read_tokenizer(path)


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest token id, added tokens included."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def end_token(tokenizer: Tokenizer) -> int:
    """The id of `<|endoftext|>`. Raises `UserError` if the tokenizer lacks it."""
    found: int | None = tokenizer.token_to_id(END)
    if found is None:
        raise UserError(f"the tokenizer has no token {END!r}, which ends every document")
    return found


def token_type(vocabulary: int) -> pa.DataType:
    """The Arrow type of token ids: uint16 up to 65,536 of them, then uint32."""
    return pa.uint16() if vocabulary <= 2**16 else pa.uint32()


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
    """Token ids of each text, without an end token; the same whatever the number of threads."""
    found: list[npt.NDArray[np.uint32]] = []
    for first in range(0, len(texts), TEXTS_A_BATCH):
        batch = list(texts[first : first + TEXTS_A_BATCH])
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            found.append(np.array(encoding.ids, dtype=np.uint32))
    return found


def text_digest(text: str) -> str:
    """16 hex digits of BLAKE2b-64 of the text: says whether tokens are those of this text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def token_bytes(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """Bytes of UTF-8 text by token id, shape (vocabulary,); special tokens stand for none.

    Exact for byte-level vocabularies, whose alphabet has one character a byte, and for SentencePiece ones with byte
    fallback but for the space that these put before a text.
    """
    specials = {id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    added = set(tokenizer.get_added_tokens_decoder())
    byte_level = all(alphabet.issuperset(token) for token, id in vocabulary.items() if id not in added)
    sizes = np.zeros(vocabulary_size(tokenizer), dtype=np.int32)
    for token, id in vocabulary.items():
        if id in specials:
            continue
        if byte_level and id not in added:
            sizes[id] = len(token)
        else:
            sizes[id] = 1 if _BYTE.fullmatch(token) else len(token.replace("▁", " ").encode())
    return sizes
