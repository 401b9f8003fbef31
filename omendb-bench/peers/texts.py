#!/usr/bin/env python3
"""Full text of OmenDB beside LanceDB, zvec and plain tantivy, each as its Python package is used.

  texts.py FOLDER [--rows N] [--queries Q] [--only omendb,tantivy,lancedb,zvec] [--rounds R] [--out FILE]

FOLDER holds texts.jsonl ({"text"} a line) and queries.jsonl ({"text", "row": the right answer}), as `omendb-bench text`
reads them. All stem English words, keep all words and the positions that phrases need. Each program is a process of its
own in an empty folder. Measured are

- index: from the first text until all are written and the first search by words is answered;
- search: the ten best of single queries, one after the other, the process pinned to one core, per second of processor
  time: the first word of each query, its first two words, the first two as a phrase, and the whole of it, any word of
  which may match;
- found: how often the right text is among the ten best of the whole query, a check that all rank alike.

The databases keep the texts and their ids; plain tantivy keeps the number of each text alone.
What is not installed is left out: pip install lancedb zvec tantivy.
"""
import argparse
import datetime
import importlib.metadata
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare
from databases import folder_bytes, pin

K = 10
KINDS = {"one word": 1, "two words": 2, "phrase of two": 2, "whole query": 99}


class Omendb:
    PACKAGE = "omendb"

    def write(self, ids, texts):
        import omendb
        self.db = omendb.open("data")
        # A record has a vector; one of a single number that nothing indexes costs the least.
        self.docs = self.db.create_collection("texts", dim=1, metric="l2", quantization="none")
        for start in range(0, len(ids), 10_000):
            part = slice(start, start + 10_000)
            self.docs.upsert(ids[part], [[0.0]] * len(ids[part]), text=texts[part])
        self.docs.wait_indexed()

    def open(self):
        import omendb
        self.db = omendb.open("data", read_only=True)
        self.docs = self.db.get_collection("texts")

    def search(self, words, phrase):
        return self.docs.search(text=f'"{words}"' if phrase else words, k=K, include=()).ids

    def close(self):
        self.db.close()


class Tantivy:
    PACKAGE = "tantivy"

    def write(self, ids, texts):
        import tantivy
        schema = tantivy.SchemaBuilder().add_unsigned_field("row", stored=True)
        schema = schema.add_text_field("text", tokenizer_name="en_stem", index_option="position").build()
        os.mkdir("data")
        self.index = tantivy.Index(schema, path="data")
        writer = self.index.writer(heap_size=400 << 20, num_threads=2)
        for row, text in enumerate(texts):
            writer.add_document(tantivy.Document(row=row, text=text))
        writer.commit()
        writer.wait_merging_threads()
        self.view()

    def view(self):
        self.index.reload()
        self.searcher = self.index.searcher()

    def open(self):
        import tantivy
        self.index = tantivy.Index.open("data")
        self.view()

    def search(self, words, phrase):
        query = self.index.parse_query(f'"{words}"' if phrase else words, ["text"])
        found = self.searcher.search(query, K, count=False).hits
        return [f"text_{self.searcher.doc(place)['row'][0]:07}" for _, place in found]

    def close(self):
        pass


class LanceDB:
    PACKAGE = "lancedb"

    def write(self, ids, texts):
        import lancedb
        import pyarrow
        from lancedb.index import FTS
        table = lambda part: pyarrow.table({"id": ids[part], "text": texts[part]})
        self.docs = lancedb.connect("data").create_table("texts", table(slice(0, 10_000)))
        for start in range(10_000, len(ids), 10_000):
            self.docs.add(table(slice(start, start + 10_000)))
        words = FTS(with_position=True, remove_stop_words=False, ascii_folding=False, num_workers=2)
        self.docs.create_index("text", config=words)

    def open(self):
        import lancedb
        self.docs = lancedb.connect("data").open_table("texts")

    def search(self, words, phrase):
        from lancedb.query import MatchQuery, PhraseQuery
        query = PhraseQuery(words, "text") if phrase else MatchQuery(words, "text")
        found = self.docs.search(query, query_type="fts").select(["id", "_score"]).limit(K)
        return found.to_arrow()["id"].to_pylist()

    def close(self):
        pass


class Zvec:
    PACKAGE = "zvec"

    def write(self, ids, texts):
        import zvec
        words = zvec.FtsIndexParam("standard", ["lowercase", "stemmer"])
        field = zvec.FieldSchema("text", zvec.DataType.STRING, index_param=words)
        self.docs = zvec.create_and_open("data", zvec.CollectionSchema("texts", [field]))
        for start in range(0, len(ids), 1_000):
            part = slice(start, start + 1_000)
            self.docs.insert([zvec.Doc(i, fields={"text": text}) for i, text in zip(ids[part], texts[part])])
        self.docs.flush()
        self.docs.optimize()

    def open(self):
        import zvec
        self.docs = zvec.open("data")

    def search(self, words, phrase):
        import zvec
        wanted = zvec.Fts(query_string=f'"{words}"') if phrase else zvec.Fts(match_string=words)
        return [hit.id for hit in self.docs.query(zvec.Query("text", fts=wanted), topk=K, output_fields=[])]

    def close(self):
        del self.docs


PROGRAMS = {"omendb": Omendb, "tantivy": Tantivy, "lancedb": LanceDB, "zvec": Zvec}


def lines(path, count):
    with open(path) as file:
        return [json.loads(line) for line in itertools.islice(file, count)]


def words_of(text):
    """The words of a query without the signs and names that a parser would read."""
    letters = "".join(letter if letter.isalnum() else " " for letter in text)
    return [word for word in letters.split() if word not in ("AND", "OR", "NOT", "IN", "TO")]


def write(program, given):
    texts = [line["text"] for line in lines(f"{given.folder}/texts.jsonl", given.rows)]
    ids = [f"text_{row:07}" for row in range(len(texts))]
    importlib.import_module(program.PACKAGE)
    clock, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    program.write(ids, texts)
    program.search("library", False)
    seconds, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_SELF)
    program.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    size = sum(len(text.encode()) for text in texts)
    return {"rate": len(texts) / seconds, "cpu": cpu * 1e6 / len(texts), "disk": folder_bytes() / size}


def search(program, given):
    asked = [query for query in lines(f"{given.folder}/queries.jsonl", None) if query["row"] < given.rows]
    asked = [(words_of(query["text"]), f"text_{query['row']:07}") for query in asked]
    asked = [query for query in asked if len(query[0]) >= 2][: given.queries]
    program.open()
    pin(os.cpu_count() - 1)
    figures = {}
    for kind, count in KINDS.items():
        queries = [" ".join(words[:count]) for words, _ in asked]
        for query in queries[:50]:
            program.search(query, kind.startswith("phrase"))
        busy = time.process_time()
        found = [program.search(query, kind.startswith("phrase")) for query in queries]
        figures[kind] = len(queries) / (time.process_time() - busy)
    figures["found"] = sum(right in ids for ids, (_, right) in zip(found, asked)) / len(asked)
    program.close()
    return figures


def run(name, given):
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        for step in ("write", "search"):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name, "--step", step]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=scratch, check=True)
            figures.update(json.loads(done.stdout.splitlines()[-1]))
    return figures


def report(rounds, given):
    load_average = " ".join(open("/proc/loadavg").read().split()[:3])
    lines = [
        f"{datetime.date.today()}, {compare.machine()}, load average {load_average}; the first {given.rows:,} texts of "
        f"{Path(given.folder).name}, {given.queries:,} queries at most; best of {given.rounds} rounds.",
        "",
        f"| program | texts indexed a second | CPU us a text | disk over texts | {' | '.join(KINDS)} | found |",
        "|---|---|---|---|" + "---|" * (len(KINDS) + 1),
    ]
    for name, each in rounds.items():
        best = {key: max(figures[key] for figures in each) for key in each[0]}
        cells = [f"{name} {importlib.metadata.version(PROGRAMS[name].PACKAGE)}", f"{best['rate']:,.0f}"]
        cells += [f"{min(figures['cpu'] for figures in each):.1f}", f"{best['disk']:.2f}x"]
        cells += [f"{best[kind]:,.0f}" for kind in KINDS] + [f"{best['found']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=os.path.abspath)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--only", default=",".join(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps({"write": write, "search": search}[given.step](PROGRAMS[given.one](), given)))
        return
    rounds = {}
    for _ in range(given.rounds):
        for name in given.only.split(","):
            try:
                importlib.metadata.version(PROGRAMS[name].PACKAGE)
                rounds.setdefault(name, []).append(run(name, given))
            except (importlib.metadata.PackageNotFoundError, subprocess.CalledProcessError) as e:
                print(f"{name} is left out: {e}", file=sys.stderr)
    text = report(rounds, given)
    print(text)
    if given.out:
        Path(given.out).write_text(text)


if __name__ == "__main__":
    main()
