"""What the numbers of crates/hnsw/src/tuning.rs do on real vectors (`make tuning` runs this).

python tuning.py CURVE VECTORS OUT.md: for each number, halved, doubled and where it says so switched off, the records
that a search at recall 0.95 looks at, the recall at a slack of 0.2, and the processor time of the build, each
against the number as it is. CURVE is the example `curve` of pgclip-hnsw, built with its feature `ablation`; VECTORS
the folder that `make vectors` fills. Queries are those of the half `tuning`. Results are kept beside OUT.md while it
runs, so that it may be stopped and go on.
"""

import concurrent.futures
import json
import math
import os
import pathlib
import re
import subprocess
import sys

ROWS = 40_000
SETS = {
    "GloVe": ["vectors={v}/glove.npy"],
    "sentences": ["vectors={v}/sentences.npy", "texts={v}/texts.npy"],
    "frames (generated)": ["frames=1"],
}
SLACKS = "0.04,0.06,0.08,0.1,0.13,0.16,0.2,0.26,0.34,0.5"
# Half and twice, and what switches it off, where anything does.
NUMBERS = {
    "slack_floor": (0.01, 0.0),
    "slack_far": (2.5, 1000.0),
    "most_first": (5000.0, 1e9),
    "most_each": (40.0, 1e9),
    "crowd": (16.0, 1e30),
    "caught_after": (64, 10**9),
    "around": (256, None),
    "build_starts": (64, 1),
    "rough": (0.0027, None),
    "least_edges": (0.7, 1.0),
}


def run(curve, vectors, arguments, tuning):
    command = [curve, f"rows={ROWS}", "half=tuning", "queries=300", "limits=10", f"slacks={SLACKS}", "samples=4", "threads=1"]
    command += [argument.format(v=vectors) for argument in arguments]
    environment = {**os.environ, "PGCLIP_TUNING": tuning}
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found = {"build": float(re.search(r"which ran for ([\d.]+) s", out)[1])}
    lines = re.findall(r"^(\w+) +slack (\S+) +limit 10 +recall (\S+) .*? (\d+) records", out, re.M)
    for kind in dict.fromkeys(kind for kind, *_ in lines):
        points = [(float(s), float(r), float(n)) for k, s, r, n in lines if k == kind]
        points = [point for point in points if f"{point[0]:g}" in SLACKS.split(",")]
        found[kind] = {"records": records_at(points, 0.95), "recall": next(r for s, r, _ in points if s == 0.2)}
    return found


def records_at(points, recall):
    """By the logarithm of what is missed."""
    missed = lambda r: math.log(max(1 - r, 1e-4))
    for (_, low, few), (_, high, many) in zip(points, points[1:]):
        if low < recall <= high:
            share = (missed(recall) - missed(low)) / (missed(high) - missed(low))
            return few + (many - few) * share
    return None


def tried(number):
    value, off = NUMBERS[number]
    half = value // 2 if isinstance(value, int) else value / 2
    values = {"half": half, "twice": value * 2, "off": off}
    if number == "least_edges":  # a share: no more than all
        del values["twice"]
    return {what: other for what, other in values.items() if other is not None}


def variants():
    return [f"{number}={other}" for number in NUMBERS for other in tried(number).values()]


def main():
    curve, vectors, out = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    kept = out.with_suffix(".json")
    known = json.loads(kept.read_text()) if kept.exists() else {}

    def measure(name, tuning):
        key = f"{name} {tuning}"
        if key not in known:
            known[key] = run(curve, vectors, SETS[name], tuning)
            print(key, known[key], flush=True)
            kept.write_text(json.dumps(dict(known), indent=1))
        return known[key]

    # A thread a run: as many at once as there are cores.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda pair: measure(*pair), [(name, other) for other in ["", *variants()] for name in SETS]))

    plain = {name: measure(name, "") for name in SETS}
    columns = [(name, kind) for name in SETS for kind in plain[name] if kind != "build"]
    if len(columns) == 5:  # the generated set's text-like queries say what those of the sentences say
        columns.pop()
    lines = []
    for number in NUMBERS:
        for what, other in tried(number).items():
            cells = []
            for name, kind in columns:
                here = measure(name, f"{number}={other}")
                cells.append(change(here[kind]["records"], plain[name][kind]["records"]))
                cells.append(f"{here[kind]['recall'] - plain[name][kind]['recall']:+.3f}")
            builds = [measure(name, f"{number}={other}")["build"] / plain[name]["build"] for name in SETS]
            build = change(math.exp(sum(map(math.log, builds)) / len(builds)), 1.0)
            lines.append(f"| `{number}` {NUMBERS[number][0]:g} | {what} | {' | '.join(cells)} | {build} |")
    out.write_text(page(plain, columns, lines))


def change(new, old):
    return "–" if new is None or old is None else f"{100 * (new / old - 1):+.0f} %"


def page(plain, columns, lines):
    text = [
        "# What the index's numbers do",
        "",
        "`make tuning` made this page, by `benches/tuning.py`. Every number that was chosen and not derived is in",
        f"`crates/hnsw/src/tuning.rs`. Each was halved, doubled and switched off alone, on {ROWS:,} rows of each set in",
        "memory, asked by 300 vectors of the half *tuning*. The cells are the change in records looked at for recall@10",
        "0.95, and the change in recall at a slack of 0.2; the last column is the builds' processor time, in the mean.",
        "One thread builds, so that what differs is the number; 0.003 in recall or 5 % in time is chance all the same. The numbers of filtered walks and of",
        "repair by VACUUM are not in it: the tests of `crates/hnsw/tests` hold what they do.",
        "",
        "As it is: " + "; ".join(
            f"{name}, {kind}: {plain[name][kind]['records']:.0f} records for 0.95, recall {plain[name][kind]['recall']:.3f} at slack 0.2"
            for name, kind in columns
        ) + ".",
        "",
        "| number | | " + " | ".join(f"{name}, {kind}: records | recall" for name, kind in columns) + " | build |",
        "| --- | --- |" + " ---: | ---: |" * len(columns) + " ---: |",
        *lines,
        "",
    ]
    return "\n".join(text)


main()
