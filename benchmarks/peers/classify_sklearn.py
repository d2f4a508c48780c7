"""scikit-learn on labelled examples: `classify_sklearn.py TRAINING TEST`, both as JSON lines.

TF-IDF of words, pairs of words and 3 to 5 characters, with a logistic regression: what its manual
shows for texts.
"""

import json
import resource
import sys
import time
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer  # pyright: ignore[reportMissingImports]
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingImports]
from sklearn.pipeline import make_pipeline, make_union  # pyright: ignore[reportMissingImports]


def read(path: str) -> tuple[list[str], list[str]]:
    """Texts and labels."""
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line)["messages"] for line in lines if line]
    texts = ["\n".join(turn["content"] for turn in turns[:-1]) for turns in rows]
    return texts, [turns[-1]["content"] for turns in rows]


if __name__ == "__main__":
    texts, labels = read(sys.argv[1])
    begun = time.perf_counter()
    model = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2),
        ),
        LogisticRegression(max_iter=200, C=10),
    )
    model.fit(texts, labels)
    trained_s = time.perf_counter() - begun
    shown, right = read(sys.argv[2])
    begun = time.perf_counter()
    found = model.predict(shown)
    answer_ms = (time.perf_counter() - begun) / len(shown) * 1000
    told = {
        "correct": int((found == right).sum()),
        "cases": len(right),
        "trained_s": trained_s,
        "answer_ms": answer_ms,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(told))
