"""The vendors' official SDKs against a running gateway, each in its own dialect.

    python suite.py --base http://127.0.0.1:8080

The gateway must answer from its simulated provider. Prints a line per case and a count at the end.
"""

import argparse
import asyncio
import sys
import traceback

import anthropic
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

BASE = ""
MODEL = "sim-small"
CASES = []
TOOL = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def case(function):
    CASES.append(function)
    return function


def openai_client(**options):
    return openai.OpenAI(base_url=BASE + "/v1", api_key="unused", max_retries=0, timeout=20, **options)


def anthropic_client(**options):
    return anthropic.Anthropic(base_url=BASE, api_key="unused", max_retries=0, timeout=20, **options)


def gemini_client(timeout=20_000):
    options = types.HttpOptions(base_url=BASE, timeout=timeout)
    return genai.Client(api_key="unused", http_options=options)


def said(prompt):
    return [{"role": "user", "content": prompt}]


def raises(kind, function):
    try:
        function()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


@case
def openai_chat_and_cache():
    client = openai_client()
    ask = lambda: client.chat.completions.with_raw_response.create(model=MODEL, messages=said("openai unary"))
    first, second = ask(), ask()
    answer = first.parse()
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert first.headers["x-chimera-cache"].startswith("miss"), first.headers
    assert second.headers["x-chimera-cache"] == "l1", second.headers
    assert second.parse() == answer


@case
def openai_stream_joins_to_the_unary_answer():
    client = openai_client()
    ask = lambda **more: client.chat.completions.create(model=MODEL, messages=said("openai stream"), **more)
    chunks = list(ask(stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(chunks) > 5 and all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert ask().choices[0].message.content == text
    counted = list(ask(stream=True, stream_options={"include_usage": True}))
    assert counted[-1].usage.completion_tokens > 0 and not counted[-1].choices


@case
def openai_tools():
    client = openai_client()
    tools = [{"type": "function", "function": TOOL}]
    messages = said("the weather in parallel, please")
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    calls = answer.choices[0].message.tool_calls
    assert len(calls) == 2 and answer.choices[0].finish_reason == "tool_calls"
    assert calls[0].function.name == "weather" and calls[0].id != calls[1].id
    messages.append(answer.choices[0].message.model_dump(exclude_none=True))
    for call in calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    final = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert final.choices[0].message.content
    seen = {}
    for chunk in client.chat.completions.create(
        model=MODEL, messages=said("streamed, in parallel"), tools=tools, stream=True
    ):
        for call in chunk.choices[0].delta.tool_calls or []:
            seen[call.index] = seen.get(call.index, "") + (call.function.arguments or "")
    assert sorted(seen) == [0, 1] and all(text.endswith("}") for text in seen.values()), seen


@case
def openai_embeddings():
    client = openai_client()
    answer = client.embeddings.create(model=MODEL, input=["one", "two"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) > 10
    assert answer.data[0].embedding != answer.data[1].embedding


@case
def openai_models_and_errors():
    client = openai_client()
    assert MODEL in [model.id for model in client.models.list()]
    error = raises(
        openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=said("x"))
    )
    assert error.code == "model_not_found", error.body
    raises(openai.BadRequestError, lambda: client.chat.completions.create(model="", messages=said("x")))
    quick = openai_client().with_options(timeout=0.02)
    raises(
        openai.APITimeoutError,
        lambda: quick.chat.completions.create(model="sim-large", messages=said("too slow")),
    )
    late = client.with_options(default_headers={"x-chimera-timeout-ms": "20"})
    error = raises(
        openai.InternalServerError,
        lambda: late.chat.completions.create(model="sim-large", messages=said("too late")),
    )
    assert error.status_code == 504 and error.code == "timeout", error.body


@case
def openai_async_and_abandoned():
    async def run():
        client = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="unused", max_retries=0, timeout=20)
        stream = await client.chat.completions.create(model=MODEL, messages=said("async"), stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(text)
        stream = await client.chat.completions.create(model="sim-large", messages=said("left"), stream=True)
        async for _ in stream:
            break
        await stream.close()

    asyncio.run(asyncio.wait_for(run(), 20))


@case
def anthropic_chat_and_cache():
    client = anthropic_client()
    ask = lambda: client.messages.with_raw_response.create(
        model=MODEL, max_tokens=64, messages=said("anthropic unary")
    )
    first, second = ask(), ask()
    answer = first.parse()
    assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.output_tokens > 0 and first.headers["request-id"]
    assert second.headers["x-chimera-cache"] == "l1" and second.parse() == answer


@case
def anthropic_stream():
    client = anthropic_client()
    with client.messages.stream(model=MODEL, max_tokens=64, messages=said("anthropic stream")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and final.content[0].text == text and final.usage.output_tokens > 0
    unary = client.messages.create(model=MODEL, max_tokens=64, messages=said("anthropic stream"))
    assert unary.content[0].text == text


@case
def anthropic_tools_and_count():
    client = anthropic_client()
    tools = [{"name": "weather", "description": "w", "input_schema": TOOL["parameters"]}]
    messages = said("the weather in parallel")
    answer = client.messages.create(model=MODEL, max_tokens=64, messages=messages, tools=tools)
    uses = [block for block in answer.content if block.type == "tool_use"]
    assert len(uses) == 2 and answer.stop_reason == "tool_use"
    messages.append({"role": "assistant", "content": [block.model_dump() for block in answer.content]})
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"} for use in uses]
    messages.append({"role": "user", "content": results})
    final = client.messages.create(model=MODEL, max_tokens=64, messages=messages, tools=tools)
    assert final.content[0].text
    assert client.messages.count_tokens(model=MODEL, messages=said("count me")).input_tokens > 0


@case
def anthropic_errors():
    client = anthropic_client()
    ask = lambda model: client.messages.create(model=model, max_tokens=5, messages=said("x"))
    raises(anthropic.NotFoundError, lambda: ask("nobody"))
    raises(anthropic.BadRequestError, lambda: ask(""))
    quick = client.with_options(timeout=0.02)
    raises(
        anthropic.APITimeoutError,
        lambda: quick.messages.create(model="sim-large", max_tokens=64, messages=said("slow")),
    )


@case
def gemini_chat_stream_and_count():
    client = gemini_client()
    answer = client.models.generate_content(model=MODEL, contents="gemini stream")
    assert answer.text and answer.usage_metadata.total_token_count > 0
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="gemini stream"))
    assert "".join(chunk.text or "" for chunk in chunks) == answer.text and len(chunks) > 1
    assert client.models.count_tokens(model=MODEL, contents="count me").total_tokens > 0


@case
def gemini_tools_and_embeddings():
    client = gemini_client()
    declared = types.FunctionDeclaration(
        name="weather", description="w", parameters_json_schema=TOOL["parameters"]
    )
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    answer = client.models.generate_content(model=MODEL, contents="in parallel", config=config)
    assert len(answer.function_calls) == 2 and answer.function_calls[0].name == "weather"
    embedded = client.models.embed_content(model=MODEL, contents="one")
    assert len(embedded.embeddings[0].values) > 10


@case
def gemini_errors():
    client = gemini_client()
    error = raises(
        genai_errors.ClientError, lambda: client.models.generate_content(model="nobody", contents="x")
    )
    assert error.code == 404, error
    assert MODEL in [model.name.removeprefix("models/") for model in client.models.list()]


def main():
    global BASE
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--base", required=True)
    BASE = arguments.parse_args().base.rstrip("/")
    failed = 0
    for function in CASES:
        try:
            function()
            print(f"ok {function.__name__}", flush=True)
        except Exception as error:  # noqa: BLE001: every failure is reported, none ends the run
            failed += 1
            print(f"FAILED {function.__name__}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
    print(f"{len(CASES) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
