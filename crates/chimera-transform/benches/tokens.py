"""Token counts and speed beside OpenAI's own tiktoken, on the texts of the example `tokens`.

    python3 -m venv v && v/bin/pip install tiktoken
    cargo run --release -p chimera-transform --example tokens -- --write texts.jsonl && v/bin/python tokens.py texts.jsonl

Where tiktoken cannot fetch its encodings, the package litellm carries them:
`v/bin/pip install --no-deps litellm`, and TIKTOKEN_CACHE_DIR set to its litellm/litellm_core_utils/tokenizers.
"""

import collections
import json
import sys
import time

import tiktoken


def fastest(count, texts, tries=3):
    """The least time that all texts take, and what they come to."""
    best, counts = float("inf"), None
    for _ in range(tries):
        began = time.process_time()
        counts = [count(text) for text in texts]
        best = min(best, time.process_time() - began)
    return best, counts


def main():
    with open(sys.argv[1]) as lines:
        seconds = json.loads(next(lines))["seconds"]
        rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows]
    size = sum(len(text.encode()) for text in texts)
    wrong = 0
    print(f"tiktoken {tiktoken.__version__}, {len(rows)} texts, {size} bytes")
    for name, ours in seconds.items():
        encoding = tiktoken.get_encoding(name)
        encoding.encode_ordinary("warm")
        plain, counts = fastest(lambda text: len(encoding.encode_ordinary(text)), texts)
        array, _ = fastest(lambda text: encoding.encode_to_numpy(text, disallowed_special=()).size, texts)
        theirs = min(plain, array)
        differ = collections.Counter(
            row["language"] for row, count in zip(rows, counts) if row["tokens"][name] != count
        )
        wrong += differ.total()
        print(
            f"{name}: {sum(counts)} tokens, {differ.total()} texts differ {dict(differ) or ''}; "
            f"ours {size / ours / 1e6:.1f} MB/s, tiktoken {size / theirs / 1e6:.1f} MB/s, {theirs / ours:.1f} times"
        )
    sys.exit(bool(wrong))


main()
