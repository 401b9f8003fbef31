"""Hybrid search: what a text says and what a vector means, with a filter, in one call.

20,000 words with their definitions (WordNet) and vectors (GloVe, 100 dimensions), as they lie in this repository.
"""

import gzip
import json
from pathlib import Path

import numpy as np

import omendb

DATA = Path(__file__).resolve().parents[2] / "omendb-cli" / "data"
with gzip.open(DATA / "words.jsonl.gz", "rt", encoding="utf-8") as file:
    words = [json.loads(line) for line in file]
with gzip.open(DATA / "vectors.f16.gz") as packed:
    vectors = np.frombuffer(packed.read(), dtype="<f2").reshape(len(words), 100)


def show(question: str, hits: omendb.Hits) -> None:
    print(f"\n{question}")
    for hit in hits:
        print(f"  {hit.score:.3f}  {str(hit.id):12} {(hit.metadata or {}).get('pos', ''):10} {(hit.text or '')[:80]}")


with omendb.open("hybrid.omen") as db:
    docs = db.get_or_create_collection("words", dim=100)
    docs.upsert(
        ids=[each["word"] for each in words],
        vectors=vectors,
        metadata=[{"pos": each["pos"], "rank": rank} for rank, each in enumerate(words)],
        text=[each["gloss"] for each in words],
    )
    king = docs.get("king")
    assert king is not None

    # By words alone: BM25 over the definitions. Phrases, prefixes, and words that must not be there.
    texts = docs.search(text='"body of water" -salt', k=5)
    show('"body of water" -salt', texts)
    # Words are compared by their stems: "bodies of water" is found too.
    assert all("of water" in (hit.text or "") and "salt" not in (hit.text or "") for hit in texts)

    # By meaning alone: near the vector of "king".
    near = docs.search(king.vector, k=5)
    show("near king", near)

    # Both at once: near "king", and about women by definition. Neither alone ranks them so.
    both = docs.search(king.vector, text="female woman", k=5)
    show("near king, female or woman", both)
    assert any(word in both.ids for word in ("queen", "princess"))

    # With a filter, and with weights in place of ranks.
    verbs = docs.search(king.vector, text="power control", k=5, filter={"pos": "verb", "rank": {"$lt": 15_000}})
    show("near king, power or control, verbs", verbs)
    assert all((hit.metadata or {})["pos"] == "verb" for hit in verbs)
    show("the same, by weights", docs.search(king.vector, text="power control", k=5, fuse="weighted", alpha=0.3))
