"""Other optimizers on the tasks with hidden rules, over HTTP: a line of JSON for each task and seed.

compare.py ADDRESS SEEDS BUDGET gepa|mipro [THREADS] [TASK] [PROPOSALS] [KEPT]

SEEDS is how many, from zero, or FIRST..END. PROPOSALS is how many gepa makes at once, each from a parent and a minibatch of its own, and KEPT how many of those that
passed it takes up; 1 is its default, and all that passed are taken up if KEPT is not said. Calls of everything that it
asks for at once go out together, THREADS at a time.

Both get the same model, the same examples, the same scores and the same budget of roll-outs. gepa gets feedback in
words; MIPROv2 has no use for it, and gets to show examples instead. The final check is not counted.
"""

import http.client
import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ADDRESS, BUDGET, WHICH = sys.argv[1], int(sys.argv[3]), sys.argv[4]
FIRST, END = map(int, sys.argv[2].split("..") if ".." in sys.argv[2] else ("0", sys.argv[2]))
THREADS = int(sys.argv[5]) if len(sys.argv) > 5 else 8
PROPOSALS = int(sys.argv[7]) if len(sys.argv) > 7 else 1
KEPT = int(sys.argv[8]) if len(sys.argv) > 8 else 0
TASKS = [sys.argv[6]] if len(sys.argv) > 6 and sys.argv[6] != "all" else ["invoices", "tickets", "catalogue"]
local = threading.local()


def request(method, path, body=None):
    """One call over the thread's own connection."""
    if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection(ADDRESS)
    local.connection.request(method, path, None if body is None else json.dumps(body))
    return json.loads(local.connection.getresponse().read())


def ask(messages, seed=0):
    answer = request("POST", "/v1/chat/completions", {"model": "hidden", "messages": messages, "seed": seed})
    return answer["choices"][0]["message"]["content"]


def judge(expected, output):
    return request("POST", "/judge", {"expected": expected, "output": output})


def roll_out(prompt, example):
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": example["input"]}]
    output = ask(messages)
    return output, judge(example["expected"], output)


def run_gepa(task, seed, data):
    import gepa
    from gepa.core.adapter import EvaluationBatch
    from gepa.strategies.proposal_sampling import IndependentSampling
    from gepa.strategies.proposal_selection import TopKImprovements

    pool = ThreadPoolExecutor(THREADS)
    asked = [0]

    class Adapter:
        propose_new_texts = None

        def evaluate(self, batch, candidate, capture_traces=False):
            return self.batch_evaluate([(candidate, batch)])[0]

        def batch_evaluate(self, items):
            """All roll-outs of all candidates at once."""
            pairs = [(candidate["instruction"], example) for candidate, batch in items for example in batch]
            found = iter(list(pool.map(lambda pair: roll_out(*pair), pairs)))
            return [self.batch_of(batch, [next(found) for _ in batch]) for _, batch in items]

        def batch_of(self, batch, found):
            traces = [
                {"input": example["input"], "output": output, "feedback": judged["feedback"] or "Right."}
                for example, (output, judged) in zip(batch, found)
            ]
            return EvaluationBatch(
                outputs=[output for output, _ in found],
                scores=[judged["score"] for _, judged in found],
                trajectories=traces,
            )

        def make_reflective_dataset(self, candidate, batch, components):
            records = [
                {"Inputs": one["input"], "Generated Outputs": one["output"], "Feedback": one["feedback"]}
                for one in batch.trajectories
            ]
            return {name: records for name in components}

    class Reflector:
        def __call__(self, prompt):
            return self.batch_complete([prompt])[0]

        def batch_complete(self, prompts):
            """All reflections at once; each with a seed of its own, in their order."""
            texts = [one if isinstance(one, str) else "\n".join(part["content"] for part in one) for one in prompts]
            asked[0] += len(texts)
            seeds = range(seed * 1000 + asked[0] - len(texts) + 1, seed * 1000 + asked[0] + 1)
            return list(pool.map(lambda text, of: ask([{"role": "user", "content": text}], of), texts, seeds))

        # What gepa reads off models that count.
        total_cost = 0.0

    class Silent:
        def log(self, _):
            pass

    wide = {}
    if PROPOSALS > 1:
        wide = {"sampling_strategy": IndependentSampling(PROPOSALS), "cache_evaluation": True}
        wide |= {"selection_strategy": TopKImprovements(KEPT)} if KEPT else {}
    found = gepa.optimize(
        seed_candidate={"instruction": data["prompt"]}, trainset=data["train"], valset=data["validation"],
        adapter=Adapter(), reflection_lm=Reflector(), max_metric_calls=BUDGET, seed=seed, logger=Silent(), **wide,
    )
    curve, best = [], -1.0
    for count, score in sorted(zip(found.discovery_eval_counts, found.val_aggregate_scores)):
        if score > best:
            best = score
            # Counted up to the discovery: the score is known when the validation set is through as well.
            curve.append([count + len(data["validation"]), score])
    prompt = found.best_candidate["instruction"]
    return lambda example: roll_out(prompt, example)[1]["score"], found.total_metric_calls, curve


def run_mipro(task, seed, data):
    import dspy

    logging.disable(logging.WARNING)
    dspy.disable_logging()
    model = dspy.LM("openai/hidden", api_base=f"http://{ADDRESS}/v1", api_key="none", cache=False, temperature=1.0)
    dspy.configure(lm=model)
    lock, count, curve = threading.Lock(), [0], []

    class Record(dspy.Signature):
        input: str = dspy.InputField()
        output: str = dspy.OutputField()

    Record.__doc__ = data["prompt"]

    def metric(example, prediction, trace=None):
        with lock:
            count[0] += 1
        score = judge(example.expected, prediction.output or "")["score"]
        return score if trace is None else score >= 1.0

    def examples(name):
        return [
            dspy.Example(input=one["input"], output=json.dumps(one["expected"]), expected=one["expected"])
            .with_inputs("input")
            for one in data[name]
        ]

    mipro = dspy.MIPROv2(metric=metric, auto=None, num_candidates=8, num_threads=THREADS, seed=seed, verbose=False)
    # So many trials that the whole comes to the budget: bootstrapping, minibatches, and full evaluations.
    trials = max(4, round((BUDGET - 100) / (15 + 30 / 5)))
    best = mipro.compile(
        dspy.Predict(Record), trainset=examples("train"), valset=examples("validation"), num_trials=trials,
        minibatch_size=15, minibatch_full_eval_steps=5,
    )
    logs = getattr(best, "trial_logs", {})
    top = -1.0
    for _, log in sorted(logs.items()):
        score = log.get("full_eval_score")
        if score is not None and score / 100 > top:
            top = score / 100
            curve.append([log.get("total_eval_calls_so_far", 0), top])

    spent = count[0]

    def score(example):
        return judge(example["expected"], best(input=example["input"]).output or "")["score"]

    return score, spent, curve


def main():
    run = {"gepa": run_gepa, "mipro": run_mipro}[WHICH]
    name = "MIPROv2" if WHICH == "mipro" else WHICH
    name += f" {PROPOSALS} at once, {KEPT or 'all'} kept" if PROPOSALS > 1 else ""
    for task in TASKS:
        for seed in range(FIRST, END):
            data = request("GET", f"/data/{task}/{seed}")
            began = time.time()
            # What a library prints is not ours.
            out, sys.stdout = sys.stdout, open(os.devnull, "w")
            try:
                score, evaluations, curve = run(task, seed, data)
                seconds = time.time() - began
                held_out = sum(map(score, data["held_out"])) / len(data["held_out"])
            finally:
                sys.stdout = out
            line = {
                "optimizer": name, "task": task, "seed": seed,
                "held_out": held_out, "evaluations": evaluations, "curve": curve, "seconds": seconds,
            }
            print(json.dumps(line), flush=True)


main()
