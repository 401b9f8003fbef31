"""Searches among the records whose metadata match: both spellings, and no index to declare."""

import datetime

import numpy as np

import omendb

rng = np.random.default_rng(2)
vectors = rng.standard_normal((5_000, 32), dtype=np.float32)
metadata = [
    {
        "lang": ("en", "de", "fr")[n % 3],
        "year": 2000 + n % 25,
        "tags": ["new"] if n % 10 == 0 else ["old", "read"],
        "author": {"name": ("Ada", "Bob", "Alan")[n % 3]},
        "day": datetime.date(2020, 1, 1) + datetime.timedelta(days=n),
    }
    for n in range(5_000)
]

with omendb.open(":memory:") as db:
    docs = db.create_collection("docs", dim=32)
    docs.upsert(np.arange(5_000), vectors, metadata)
    query = vectors[0]

    # A dict of operators and a string in the style of SQL say the same.
    as_dict = {"lang": "en", "year": {"$gte": 2020}, "tags": {"$contains": "read"}}
    as_text = "lang = 'en' AND year >= 2020 AND tags CONTAINS 'read'"
    hits = docs.search(query, k=5, filter=as_dict)
    assert hits.ids == docs.search(query, k=5, filter=as_text).ids
    for hit in hits:
        print(hit.id, round(hit.score, 3), hit.metadata)

    # Nested fields, dates, alternatives.
    print(docs.count(filter={"author.name": {"$startswith": "A"}}), "by authors with A")
    print(docs.count(filter={"day": {"$lt": datetime.date(2020, 2, 1)}}), "of January 2020")
    print(docs.count(filter="(lang = 'de' OR lang = 'fr') AND NOT year IN (2000, 2001)"), "German or French, later")

    # A filter that few records match still gives the nearest of them; `complete` says that there are no more.
    rare = docs.search(query, k=10, filter="day BETWEEN '2020-01-01' AND '2020-01-03'")
    print("rare:", rare.ids, "complete:", rare.complete)
    assert sorted(map(int, rare.ids)) == [0, 1, 2] and rare.complete

    # The other verbs take filters too.
    print("deleted", docs.delete(filter={"tags": "new"}), "records,", len(docs), "are left")
    for record in docs.iterate(filter={"lang": "en"}):
        assert record.metadata is not None and record.metadata["tags"] == ["old", "read"]

    # What is malformed is refused, and the message says where.
    try:
        docs.search(query, filter={"$or": [{"lang": "en"}, {"year": {"$above": 2020}}]})
    except omendb.InvalidInput as error:
        print(error)
