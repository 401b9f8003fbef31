#!/usr/bin/env python3
"""OmenDB and its peers side by side in one run: recall and queries a second on one core.

  compare.py --bench target/release/omendb-bench --sets sift-1m,glove-100,mnist-784 --out docs/benchmarks

Every program is a process of its own, pinned to one core while it searches; each round asks every one of them once at
each effort, one after the other, so that all share whatever else the machine does. OmenDB is asked through the whole
database call: durable, string ids, snapshot, plan, merge, ids. Recall counts a row as found if it is no farther than
the tenth nearest, so ties are fair. The best and the median of the rounds go into a table and two plots a set.

Data sets lie in ~/.cache/omendb-bench/SET as base.npy, queries.npy, gt_ids.npy and meta.json. Indexes are kept beside
them (--indexes) and read again by the next run, with the build times of the run that made them.
"""
import argparse
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys

import numpy as np

import peers
import plots

TARGETS = (0.90, 0.95, 0.99)
OURS = "omendb"


class Program:
    """One process that answers efforts with results."""

    def __init__(self, name, command, core):
        self.name, self.points = name, {}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read()
        os.sched_setaffinity(self.process.pid, {core})
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), {core})

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, effort, recall_of):
        self.process.stdin.write(f"{json.dumps(effort)}\n")
        self.process.stdin.flush()
        said = self.read()
        recall, rates = self.points.setdefault(effort, (recall_of(said["found"]), []))
        rates.append(said["qps"])
        return recall

    def curve(self, pick):
        return sorted((recall, pick(rates)) for recall, rates in self.points.values())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def recall_counter(folder, count):
    """A function from found rows to recall@10."""
    rows, queries, metric = peers.load(folder)
    truth = np.load(f"{folder}/gt_ids.npy")[:count, : peers.K]

    def distances(query, ids):
        if metric == "l2":
            return ((rows[ids] - query) ** 2).sum(-1)
        return -(rows[ids] @ query)

    queries = queries[:count]
    limits = [distances(q, ids).max() for q, ids in zip(queries, truth)]
    limits = [limit + abs(limit) * 1e-5 for limit in limits]

    def count_hits(found):
        hits = 0
        for query, ids, limit in zip(queries, found, limits):
            ids = [i for i in dict.fromkeys(ids) if 0 <= i < len(rows)]
            hits += int((distances(query, ids) <= limit).sum())
        return hits / (len(queries) * peers.K)

    return count_hits, len(queries)


def at(curve, target):
    """Queries a second at a recall: along the best points, straight in log QPS against log miss."""
    front, best = [], 0
    for recall, rate in sorted(curve, reverse=True):
        if rate > best:
            front.append((recall, rate))
            best = rate
    front.reverse()
    miss = lambda recall: math.log(max(1 - recall, 1e-5))
    for (low, fast), (high, slow) in zip(front, front[1:]):
        if low <= target <= high and high > low:
            share = (miss(target) - miss(low)) / (miss(high) - miss(low))
            return math.exp(math.log(fast) * (1 - share) + math.log(slow) * share)
    return front[0][1] if front and front[0][0] >= target else None


def machine():
    lines = open("/proc/cpuinfo").read().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {gib:.0f} GiB, Linux {platform.release()}"


def command_of(name, arguments, data_set):
    folder, kept = f"{arguments.data}/{data_set}", f"{arguments.indexes}/{data_set}-{name}"
    if name.startswith(OURS):
        command = [arguments.bench, "peer", "--set", data_set, "--keep", kept, "--queries", str(arguments.queries)]
        return command + ([] if name.endswith("first") else ["--settled"])
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
    return [sys.executable, script, folder, name, "--index", kept, "--queries", str(arguments.queries)]


def run_set(data_set, arguments):
    recall_of, count = recall_counter(f"{arguments.data}/{data_set}", arguments.queries)
    programs = []
    for name in arguments.peers.split(","):
        print(f"{data_set}: {name}", file=sys.stderr, flush=True)
        programs.append(Program(name, command_of(name, arguments, data_set), arguments.core))
    if arguments.build_only:
        return [program.end() for program in programs]
    for round in range(arguments.rounds):
        for program in programs:
            for effort in program.about["efforts"]:
                # Below the recalls of the table: asked once, for the plot's sake.
                if round and program.points[effort][0] < 0.7:
                    continue
                if program.ask(effort, recall_of) > 0.998:
                    break
    report(data_set, programs, count, arguments)
    return [program.end() for program in programs]


def report(data_set, programs, count, arguments):
    first = programs[0].about
    load = " ".join(open("/proc/loadavg").read().split()[:3])
    title = f"{data_set}: {first['rows']:,} rows x {first['dim']}"
    lines = [
        f"# {title}",
        "",
        f"{datetime.date.today()}, {machine()}, load average {load}; {count:,} queries one at a time on one core, "
        f"{arguments.rounds} rounds interleaved; queries a second at recall@10, best (median) of the rounds. OmenDB is "
        "asked through the whole database call and built durably with string ids; peers are indexes in memory. Build "
        "figures are of two threads, of the run that built the index (- where it was not timed alone).",
        "",
        "| program | version | build vec/s | CPU us/vec | resident MB | @.90 | @.95 | @.99 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rates = {}
    for program in programs:
        about = program.about
        cells = []
        for target in TARGETS:
            best, middle = at(program.curve(max), target), at(program.curve(statistics.median), target)
            rates[program.name, target] = best
            cells.append(f"{best:,.0f} ({middle:,.0f})" if best and middle else "-")
        built = ["-", "-", "-"]
        if about["build_s"]:
            rate, cpu = about["rows"] / about["build_s"], about["build_cpu_s"] * 1e6 / about["rows"]
            built = [f"{rate:,.0f}", f"{cpu:,.1f}", f"{about['resident'] / 1e6:,.0f}"]
        lines.append(f"| {' | '.join([program.name, about['version'], *built, *cells])} |")
    others = [p.name for p in programs if not p.name.startswith(OURS)]
    lines.append("")
    for target in TARGETS:
        own, rivals = rates.get((OURS, target)), [(rates[name, target] or 0, name) for name in others]
        if own and rivals and max(rivals)[0]:
            rate, name = max(rivals)
            lines.append(f"At {target:.2f} OmenDB answers {own / rate:.2f} times the queries of {name}.")
            lines.append("")
    lines += [f"![recall and queries a second]({data_set}-recall.svg)", f"![builds]({data_set}-build.svg)", ""]
    os.makedirs(arguments.out, exist_ok=True)
    open(f"{arguments.out}/{data_set}.md", "w").write("\n".join(lines))
    curves = {p.name: [point for point in p.curve(max) if point[0] >= 0.75] for p in programs}
    open(f"{arguments.out}/{data_set}-recall.svg", "w").write(plots.curves(title, curves))
    known = [p for p in programs if p.about["build_s"]]
    bars = {p.name: (p.about["rows"] / p.about["build_s"], p.about["resident"] / 1e6) for p in known}
    open(f"{arguments.out}/{data_set}-build.svg", "w").write(plots.bars(title, bars))
    print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.path.expanduser("~/.cache/omendb-bench")
    parser.add_argument("--bench", default="target/release/omendb-bench")
    parser.add_argument("--sets", default="sift-1m,glove-100,mnist-784")
    parser.add_argument("--peers", default=",".join([OURS, f"{OURS}-first", *peers.PEERS]))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--core", type=int, default=os.cpu_count() - 1)
    parser.add_argument("--data", default=cache)
    parser.add_argument("--indexes", default=f"{cache}/indexes")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--out", default="docs/benchmarks")
    arguments = parser.parse_args()
    os.makedirs(arguments.indexes, exist_ok=True)
    for data_set in arguments.sets.split(","):
        run_set(data_set, arguments)


if __name__ == "__main__":
    main()
