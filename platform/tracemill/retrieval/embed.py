"""Texts to vectors, offline: the mean of wordllama's token vectors, 256 numbers of length 1.

Every vector is kept under the hash of its text, so that a text is embedded once, whichever
document, build or process it comes from.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracemill import tokenizer
from tracemill.errors import InputError
from tracemill.files import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROVIDER = "local"
MODEL = "wordllama-l2_supercat"
DIMENSIONS = 256

# Bounds the token vectors that are held at once to about 64 MB.
_TOKENS_AT_ONCE = 65_536


class Embedded(NamedTuple):
    """Vectors in the order of their texts, and how many of them were not in the cache."""

    vectors: "NDArray[np.float32]"
    computed: int


def embed(texts: Sequence[str], *, cache: Path | None = None) -> Embedded:
    """The vectors of texts: float32 of shape (len(texts), 256), each of length 1.

    Args:
        texts: equal ones are computed once. A text without tokens gets the zero vector, which is
            near to nothing.
        cache: a folder that keeps vectors by model and text (`settings.cache`); None keeps none.

    Raises `InputError` when a file of the cache cannot be read.
    """
    import numpy as np

    by_hash = {_hash(text): text for text in texts}
    known = {} if cache is None else _read(cache, list(by_hash))
    missing = [key for key in by_hash if key not in known]
    computed = compute([by_hash[key] for key in missing])
    if cache is not None and missing:
        _write(cache, missing, computed)
    known.update(zip(missing, computed, strict=True))
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        vectors[row] = known[_hash(text)]
    return Embedded(vectors, len(missing))


def compute(texts: Sequence[str]) -> "NDArray[np.float32]":
    """The vectors of texts, without a cache: float32 of shape (len(texts), 256)."""
    import numpy as np

    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for first, lengths, flat in _batches(texts):
        rows = first + np.flatnonzero(lengths)
        if not len(rows):
            continue
        begins = np.concatenate(([0], np.cumsum(lengths[lengths > 0])[:-1]))
        sums = np.add.reduceat(_weights()[flat], begins, axis=0)
        vectors[rows] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return vectors


def _batches(
    texts: Sequence[str],
) -> "Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]":
    """(first text, tokens of each text, all tokens) until the texts are used up."""
    import numpy as np

    first = 0
    while first < len(texts):
        ids: list[list[int]] = []
        held = 0
        while first + len(ids) < len(texts) and held < _TOKENS_AT_ONCE:
            ids += tokenizer.ids(texts[first + len(ids) : first + len(ids) + 64])
            held = sum(map(len, ids))
        flat = np.fromiter((token for text in ids for token in text), dtype=np.int64, count=held)
        yield first, np.array([len(text) for text in ids], dtype=np.int64), flat
        first += len(ids)


@cache
def _weights() -> "NDArray[np.float32]":
    """One vector for each token, as the wheel carries them: (32000, 256)."""
    import numpy as np
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    weights = load_file(tokenizer.bundled("weights/l2_supercat_256.safetensors"))
    return weights["embedding.weight"].astype(np.float32)


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _folder(cache: Path) -> Path:
    return cache / "embeddings" / f"{MODEL}-{DIMENSIONS}"


def _read(cache: Path, hashes: list[bytes]) -> "dict[bytes, NDArray[np.float32]]":
    import polars as pl

    files = sorted(_folder(cache).glob("[!.]*.parquet"))
    if not files or not hashes:
        return {}
    wanted = pl.LazyFrame({"text_hash": hashes}, schema={"text_hash": pl.Binary})
    try:
        found = pl.scan_parquet(files).join(wanted, on="text_hash", how="semi").collect()
        vectors = found["vector"].cast(pl.Array(pl.Float32, DIMENSIONS)).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"the embedding cache in {_folder(cache)} cannot be read ({error}): delete the folder, "
            "it fills again"
        ) from error
    return dict(zip(found["text_hash"], vectors, strict=True))


def _write(cache: Path, hashes: list[bytes], vectors: "NDArray[np.float32]") -> None:
    import polars as pl

    name = blake2b(b"".join(sorted(hashes)), digest_size=16).hexdigest()
    frame = pl.DataFrame({"text_hash": hashes, "vector": vectors}).sort("text_hash")
    write_atomically(_folder(cache) / f"{name}.parquet", frame.write_parquet)
