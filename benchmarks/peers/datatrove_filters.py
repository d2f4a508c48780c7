# /// script
# requires-python = ">=3.11"
# dependencies = ["datatrove==0.10.1", "spacy==3.8.16", "regex", "pyarrow>=18"]
# ///
"""datatrove's filters over a column of texts, in one process: SCRIPT PARQUET TEXTS.

`filter` is called for each document, as its pipeline does, without reading, writing or statistics.
CPU seconds, so that a busy machine does not count.
"""

import json
import sys
import time

WARM_UP = 200


def main() -> None:
    import pyarrow.parquet as pq
    from datatrove.data import Document  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline import filters  # pyright: ignore[reportMissingImports]

    texts = pq.read_table(sys.argv[1])["text"].slice(0, int(sys.argv[2])).to_pylist()
    classes = ("GopherQuality", "GopherRepetition", "C4Quality", "FineWebQuality")
    names = ("Gopher quality", "Gopher repetition", "C4", "FineWeb")
    each = {
        name: [getattr(filters, f"{of}Filter")()] for name, of in zip(names, classes, strict=True)
    }
    took: dict[str, float] = {}
    kept: dict[str, int] = {}
    # All together share one tokenised text, which datatrove remembers for five texts.
    for name, some in {**each, "all four": [one for (one,) in each.values()]}.items():
        # C4's filter writes the lines that it keeps into the document: it gets one of its own.
        documents = [[Document(text=text, id="") for _ in some] for text in texts]
        for text in texts[:WARM_UP]:
            some[0].filter(Document(text=text, id=""))
        began = time.process_time()
        said = [
            [keeps.filter(own) is True for keeps, own in zip(some, owned, strict=True)]
            for owned in documents
        ]
        took[name] = time.process_time() - began
        kept[name] = sum(map(all, said))
    print(json.dumps({"cpu_s": took, "kept": kept}))


if __name__ == "__main__":
    main()
