"""Calls a real model through the gateway with the official SDK, twice, and says how fast each was."""

import argparse
import json
import sys
import time

import openai

CHAT = "smollm2-135m-instruct"
EMBED = "multilingual-e5-small"
MESSAGES = [{"role": "user", "content": "Name three rivers of Europe."}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def chat(client):
    raw = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=MESSAGES, temperature=0, max_tokens=40
    )
    return raw.headers, raw.parse().choices[0].message.content


def stream(client):
    raw = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=[{"role": "user", "content": "Count to ten."}], temperature=0, max_tokens=40, stream=True
    )
    return raw.headers, "".join(c.choices[0].delta.content or "" for c in raw.parse() if c.choices)


def schema(client):
    raw = client.chat.completions.with_raw_response.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Which city is the capital of France? Answer as JSON."}],
        temperature=0,
        max_tokens=40,
        response_format=SCHEMA,
    )
    text = raw.parse().choices[0].message.content
    assert "city" in json.loads(text), text
    return raw.headers, text


def embed(client):
    raw = client.embeddings.with_raw_response.create(model=EMBED, input="a river in Europe", encoding_format="float")
    vector = raw.parse().data[0].embedding
    assert len(vector) == 384, len(vector)
    return raw.headers, vector


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--base", required=True)
    base = arguments.parse_args().base.rstrip("/")
    client = openai.OpenAI(base_url=base + "/v1", api_key="unused", max_retries=2, timeout=110)
    print("| call | first | x-chimera-cache | second | x-chimera-cache | times faster |")
    print("|---|---|---|---|---|---|")
    for call in (chat, stream, schema, embed):
        rounds = []
        for _ in range(2):
            began = time.perf_counter()
            headers, content = call(client)
            rounds.append((time.perf_counter() - began, headers["x-chimera-cache"], content))
        (slow, miss, one), (fast, hit, two) = rounds
        print(f"| {call.__name__} | {slow * 1000:.0f} ms | {miss} | {fast * 1000:.1f} ms | {hit} | {slow / fast:.0f} |")
        assert miss.startswith("miss") and hit == "l1", (miss, hit)
        assert one == two, "the second answer differs"


if __name__ == "__main__":
    sys.exit(main())
