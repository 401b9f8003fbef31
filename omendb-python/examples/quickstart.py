"""The first five minutes: store records, search them, search again after opening anew."""

import numpy as np

import omendb

rng = np.random.default_rng(1)
vectors = rng.standard_normal((1_000, 64), dtype=np.float32)

with omendb.open("library.omen") as db:
    docs = db.get_or_create_collection("docs", dim=64, metric="cosine")
    docs.upsert(
        ids=[f"doc-{n}" for n in range(1_000)],
        vectors=vectors,
        metadata=[{"lang": "en" if n % 2 else "de", "year": 2000 + n % 25} for n in range(1_000)],
        text=[f"the text of document {n}" for n in range(1_000)],
    )
    print(docs)

    hits = docs.search(vectors[42], k=3)
    for hit in hits:
        print(f"{hit.id:8} score {hit.score:.3f}  {hit.metadata}  {hit.text}")
    assert hits.ids[0] == "doc-42" and hits.scores[0] > 0.999

    many = docs.search_batch(vectors[:100], k=5)
    print(f"100 searches at once: ids {many.ids.shape}, distances {many.distances.shape}")
    assert many.ids[:, 0].tolist() == [f"doc-{n}" for n in range(100)]

    docs.update("doc-42", metadata={"lang": "fr"})
    docs.delete(["doc-0", "doc-1"])
    print("doc-42 is now", docs.get("doc-42"), "and", len(docs), "records are left")

# Everything that was acknowledged is there when the database is opened again.
with omendb.open("library.omen") as db:
    docs = db.get_collection("docs")
    assert len(docs) == 998 and "doc-0" not in docs
    record = docs.get("doc-42")
    assert record is not None and record.metadata == {"lang": "fr"}
    print("after opening anew:", docs)
