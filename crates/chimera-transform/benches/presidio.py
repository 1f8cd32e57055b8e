"""Recall, precision and speed of presidio-analyzer's pattern recognizers on the labelled set.

    cargo run --release -p chimera-transform --example labelled -- --write set.jsonl
    python3 -m venv v && v/bin/pip install presidio-analyzer
    v/bin/python presidio.py set.jsonl

A finding counts as the kind of its recognizer, whatever its score. Only the kinds that both know are counted.
"""

import json
import logging
import sys
import time

import presidio_analyzer.predefined_recognizers as recognizers

logging.disable(logging.WARNING)
KINDS = {
    "email": [recognizers.EmailRecognizer()],
    "phone": [recognizers.PhoneRecognizer()],
    "card": [recognizers.CreditCardRecognizer()],
    "iban": [recognizers.IbanRecognizer()],
    "ip": [recognizers.IpRecognizer()],
    "national_id": [recognizers.UsSsnRecognizer(), recognizers.EsNifRecognizer()],
}


def found(kind, text):
    for recognizer in KINDS[kind]:
        yield from recognizer.analyze(text, recognizer.supported_entities, None) or []


def row(name, hit, missed, wrong):
    recall, precision = 100 * hit / max(1, hit + missed), 100 * hit / max(1, hit + wrong)
    print(f"| {name} | {recall:.2f} % | {precision:.2f} % |")


def main():
    with open(sys.argv[1]) as lines:
        rows = [json.loads(line) for line in lines]
    counts = {kind: [0, 0, 0] for kind in KINDS}
    began, size = time.process_time(), 0
    for one in rows:
        size += len(one["text"].encode())
        for kind, count in counts.items():
            hits = list(found(kind, one["text"]))
            if one["kind"] == kind:
                covered = any(hit.start <= one["start"] and hit.end >= one["end"] for hit in hits)
                count[0 if covered else 1] += 1
            count[2] += sum(
                one["kind"] != kind or hit.start >= one["end"] or one["start"] >= hit.end for hit in hits
            )
    seconds = time.process_time() - began
    print("| kind | recall | precision |\n|---|---|---|")
    for kind, count in counts.items():
        row(kind, *count)
    row("all", *(sum(count[at] for count in counts.values()) for at in range(3)))
    print(f"{len(rows)} sentences, {size} bytes, {size / seconds / 1e6:.3f} MB/s")


main()
