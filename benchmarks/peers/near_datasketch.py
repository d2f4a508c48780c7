# /// script
# requires-python = ">=3.11"
# dependencies = ["datasketch==2.0.0", "xxhash==4.1.0", "pyarrow>=18"]
# ///
"""datasketch as its documentation shows it: MinHash, MinHashLSH at 0.8, every text queried."""

from near import components, main, shingles


def search(texts, clock, **settings):
    from datasketch import MinHash, MinHashLSH  # pyright: ignore[reportMissingImports]

    sets = [[gram.encode() for gram in shingles(text)] for text in texts.to_pylist()]
    clock("tokenise")
    sketches = list(MinHash.generator(sets, num_perm=128, **settings))
    clock("sketch")
    lsh = MinHashLSH(threshold=0.8, num_perm=128)
    for place, sketch in enumerate(sketches):
        lsh.insert(place, sketch, check_duplication=False)
    buckets = [lsh.query(sketch) for sketch in sketches]
    clock("LSH")
    found = components(len(texts), buckets)  # pyright: ignore[reportArgumentType]
    clock("components")
    return found


def xxh3(texts, clock):
    import xxhash  # pyright: ignore[reportMissingImports]

    def low(gram):
        return xxhash.xxh3_64_intdigest(gram) & 0xFFFFFFFF

    return search(texts, clock, hashfunc=low)


if __name__ == "__main__":
    main({"default": search, "xxh3": xxh3})
