"""Reads lines of compare.py and hidden_rules_http from files; prints them as a table.

A score is on held-out examples, with the half width of its 95 % interval over seeds. Roll-outs are counted to the
first time that the best validation score was at least 90 % of the best that any optimizer reached on that task and
seed; a run that never got there counts with all its roll-outs. Differences are paired by seed.
"""

import json
import statistics
import sys
from collections import defaultdict

T = {10: 2.262, 20: 2.093}


def half(values):
    """Half of the 95 % interval of a mean, by Student's t."""
    if len(values) < 2:
        return float("nan")
    return T.get(len(values), 2.0) * statistics.stdev(values) / len(values) ** 0.5


lines = [json.loads(line) for name in sys.argv[1:] for line in open(name) if line.startswith("{")]
runs = {(line["optimizer"], line["task"], line["seed"]): line for line in lines}
optimizers = list(dict.fromkeys(line["optimizer"] for line in lines))
tasks = list(dict.fromkeys(line["task"] for line in lines))
best = defaultdict(float)
for (_, task, seed), run in runs.items():
    best[task, seed] = max([best[task, seed]] + [score for _, score in run["curve"]])


def to_90(run, goal):
    return next((count for count, score in run["curve"] if score >= 0.9 * goal), run["evaluations"])


print("| task | optimizer | held-out | roll-outs | roll-outs to 90 % | got there | s |")
print("|---|---|---|---|---|---|---|")
for task in tasks:
    for optimizer in optimizers:
        all_ = [run for (one, other, _), run in runs.items() if (one, other) == (optimizer, task)]
        if not all_:
            continue
        scores = [run["held_out"] for run in all_]
        there = [to_90(run, best[task, run["seed"]]) for run in all_]
        reached = sum(any(score >= 0.9 * best[task, run["seed"]] for _, score in run["curve"]) for run in all_)
        print(
            f"| {task} | {optimizer} | {statistics.mean(scores):.3f} ± {half(scores):.3f} "
            f"| {statistics.mean(run['evaluations'] for run in all_):.0f} | {statistics.mean(there):.0f} "
            f"| {reached} of {len(all_)} | {statistics.mean(run['seconds'] for run in all_):.2f} |"
        )
print()
for task in tasks:
    for one in optimizers:
        for other in optimizers:
            both = [seed for (name, of, seed) in runs if (name, of) == (one, task) and (other, task, seed) in runs]
            if one < other and len(both) > 1:
                differences = [
                    runs[one, task, seed]["held_out"] - runs[other, task, seed]["held_out"] for seed in both
                ]
                print(f"{task}: {one} less {other}: {statistics.mean(differences):+.3f} ± {half(differences):.3f}")
