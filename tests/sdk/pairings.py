"""The vendors' official SDKs against providers of other dialects: every pairing, one suite.

    python pairings.py --base http://127.0.0.1:8080 --models openai=via-openai/sim-small,... --refusing 8082

At the port of `--refusing` a provider is served that says no: the model's name ends with the status. The
gateway is to have a provider there for each dialect, status and caller, `no-DIALECT-STATUS-CALLER`: one that
was told to wait asks no more. It is to know one client's key, `unused`. Prints a line per case and pairing and a count at the end.
"""

import argparse
import asyncio
import json
import re
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

BASE = ""
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


WAIT = "7"


def openai_client(key="unused"):
    return openai.OpenAI(base_url=BASE + "/v1", api_key=key, max_retries=0, timeout=20)


class Refusing(BaseHTTPRequestHandler):
    """A provider that says no in the dialect of the path, with the status that the model's name ends with."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        status = int(re.search(r"status-(\d{3})", self.path + body)[1])
        if "/v1beta/" in self.path:
            name = {404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
            answer = {"error": {"code": status, "message": "no, said Gemini", "status": name}}
        elif "/messages" in self.path:
            name = {404: "not_found_error", 429: "rate_limit_error"}.get(status, "api_error")
            answer = {"type": "error", "error": {"type": name, "message": "no, said Anthropic"}}
        else:
            name = {429: "requests", 500: "server_error"}.get(status, "invalid_request_error")
            answer = {"error": {"message": "no, said OpenAI", "type": name, "param": None, "code": None}}
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        if status == 429:
            self.send_header("retry-after", WAIT)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def has_classes(suite, vendor, ask, stranger):
    """An OpenAI or Anthropic SDK raises the class of each status and knows how long to wait."""
    kinds = {404: vendor.NotFoundError, 429: vendor.RateLimitError, 500: vendor.InternalServerError}
    for status, kind in kinds.items():
        error = raises(kind, lambda: ask(suite.refusing(status)))
        assert error.status_code == status and "no, said" in str(error), error
        if status == 429:
            assert error.response.headers["retry-after"] == WAIT
    error = raises(vendor.AuthenticationError, stranger)
    assert error.status_code == 401, error


class Caller:
    """What every suite knows of its pairing."""

    provider = ""

    def refusing(self, status):
        return f"no-{self.provider}-{status}-{self.name}/status-{status}"


def raises(kind, function):
    try:
        function()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


class OpenAi(Caller):
    """Chat completions."""

    name = "openai"

    def __init__(self, model):
        self.model, self.client = model, openai_client()

    def ask(self, messages, **more):
        return self.client.chat.completions.create(model=self.model, messages=messages, **more)

    def chat(self):
        answer = self.ask([{"role": "system", "content": "be brief"}, {"role": "user", "content": "chat"}])
        assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0

    def stream(self):
        said = [{"role": "user", "content": "stream, please"}]
        chunks = list(self.ask(said, stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == self.ask(said).choices[0].message.content and len(chunks) > 4
        assert chunks[-1].usage.completion_tokens > 0 and chunks[-2].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in self.ask(said, stream=True))

    def tools(self):
        tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
        said = [{"role": "user", "content": "the weather in parallel"}]
        message = self.ask(said, tools=tools).choices[0].message
        assert [call.function.name for call in message.tool_calls] == ["weather", "weather"]
        assert all("city" in json.loads(call.function.arguments) for call in message.tool_calls)
        said.append(message.model_dump(exclude_none=True))
        said += [{"role": "tool", "tool_call_id": c.id, "content": "sunny"} for c in message.tool_calls]
        assert self.ask(said, tools=tools).choices[0].message.content
        with self.client.chat.completions.stream(
            model=self.model, messages=[{"role": "user", "content": "streamed in parallel"}], tools=tools
        ) as stream:
            final = stream.get_final_completion().choices[0]
        assert len(final.message.tool_calls) == 2 and final.finish_reason == "tool_calls"

    def image(self):
        url = {"url": "data:image/png;base64," + PNG}
        parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": url}]
        assert self.ask([{"role": "user", "content": parts}]).choices[0].message.content

    def schema(self):
        format = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA, "strict": True}}
        answer = self.ask([{"role": "user", "content": "in JSON"}], response_format=format)
        assert "city" in json.loads(answer.choices[0].message.content)

    def long(self):
        said = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(41)]
        assert self.ask(said).choices[0].message.content

    def errors(self):
        said = [{"role": "user", "content": "x"}]
        error = raises(openai.BadRequestError, lambda: self.ask(said, extra_body={"frobnicate": 1}))
        assert error.param == "frobnicate", error.body

    def classes(self):
        create = lambda client, model, **more: client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "x"}], **more
        )
        has_classes(
            self,
            openai,
            lambda model: create(self.client, model),
            lambda: create(openai_client("wrong"), self.model),
        )
        raises(openai.NotFoundError, lambda: create(self.client, self.refusing(404), stream=True))

    def cancel(self):
        async def run():
            client = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="unused", max_retries=0, timeout=20)
            said = [{"role": "user", "content": "left"}]
            stream = await client.chat.completions.create(model=self.model, messages=said, stream=True)
            async for _ in stream:
                break
            await stream.close()

        asyncio.run(asyncio.wait_for(run(), 20))


class Responses(Caller):
    """OpenAI's responses."""

    name = "responses"

    def __init__(self, model):
        self.model, self.client = model, openai_client()

    def ask(self, input, **more):
        return self.client.responses.create(model=self.model, input=input, **more)

    def chat(self):
        answer = self.ask("chat", instructions="be brief")
        assert answer.output_text and answer.status == "completed" and answer.usage.total_tokens > 0

    def stream(self):
        with self.client.responses.stream(model=self.model, input="stream, please") as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
        assert kinds.count("response.output_text.delta") > 1
        assert final.output_text == self.ask("stream, please").output_text

    def tools(self):
        tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
        said = [{"role": "user", "content": "the weather in parallel"}]
        answer = self.ask(said, tools=tools)
        calls = [item for item in answer.output if item.type == "function_call"]
        assert len(calls) == 2 and all("city" in json.loads(call.arguments) for call in calls)
        said += [item.model_dump(exclude_none=True) for item in answer.output]
        said += [
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls
        ]
        assert self.ask(said, tools=tools).output_text

    def image(self):
        parts = [
            {"type": "input_text", "text": "what is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64," + PNG},
        ]
        assert self.ask([{"role": "user", "content": parts}]).output_text

    def schema(self):
        format = {"type": "json_schema", "name": "c", "schema": SCHEMA, "strict": True}
        assert "city" in json.loads(self.ask("in JSON", text={"format": format}).output_text)

    def long(self):
        said = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(41)]
        assert self.ask(said).output_text

    def errors(self):
        error = raises(openai.BadRequestError, lambda: self.ask("x", previous_response_id="resp_1"))
        assert error.param == "previous_response_id", error.body

    def classes(self):
        has_classes(
            self,
            openai,
            lambda model: self.client.responses.create(model=model, input="x"),
            lambda: openai_client("wrong").responses.create(model=self.model, input="x"),
        )

    def cancel(self):
        stream = self.ask("left", stream=True)
        next(iter(stream))
        stream.close()


class Anthropic(Caller):
    """Messages."""

    name = "anthropic"

    def __init__(self, model):
        self.model = model
        self.client = anthropic.Anthropic(base_url=BASE, api_key="unused", max_retries=0, timeout=20)

    def ask(self, messages, **more):
        return self.client.messages.create(model=self.model, max_tokens=200, messages=messages, **more)

    def chat(self):
        answer = self.ask([{"role": "user", "content": "chat"}], system="be brief")
        assert answer.content[0].text and answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0

    def stream(self):
        said = [{"role": "user", "content": "stream, please"}]
        with self.client.messages.stream(model=self.model, max_tokens=200, messages=said) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == final.content[0].text == self.ask(said).content[0].text
        assert final.usage.output_tokens > 0 and final.stop_reason == "end_turn"

    def tools(self):
        tools = [{"name": "weather", "input_schema": SCHEMA}]
        said = [{"role": "user", "content": "the weather in parallel"}]
        with self.client.messages.stream(
            model=self.model, max_tokens=200, messages=said, tools=tools
        ) as stream:
            answer = stream.get_final_message()
        uses = [block for block in answer.content if block.type == "tool_use"]
        assert len(uses) == 2 and answer.stop_reason == "tool_use"
        assert all("city" in use.input for use in uses)
        said.append({"role": "assistant", "content": [block.model_dump() for block in answer.content]})
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"} for use in uses]
        said.append({"role": "user", "content": results})
        assert self.ask(said, tools=tools).content[0].text

    def image(self):
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        parts = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
        assert self.ask([{"role": "user", "content": parts}]).content[0].text

    def schema(self):
        config = {"format": {"type": "json_schema", "schema": SCHEMA}}
        answer = self.ask([{"role": "user", "content": "in JSON"}], extra_body={"output_config": config})
        assert "city" in json.loads(answer.content[0].text)

    def long(self):
        said = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(41)]
        assert self.ask(said).content[0].text

    def errors(self):
        said = [{"role": "user", "content": "x"}]
        ask = lambda: self.ask(said, extra_body={"frobnicate": 1})
        assert "counterpart" in str(raises(anthropic.BadRequestError, ask))

    def classes(self):
        said = [{"role": "user", "content": "x"}]
        create = lambda client, model: client.messages.create(model=model, max_tokens=9, messages=said)
        stranger = anthropic.Anthropic(base_url=BASE, api_key="wrong", max_retries=0, timeout=20)
        has_classes(
            self,
            anthropic,
            lambda model: create(self.client, model),
            lambda: create(stranger, self.model),
        )

        def stream():
            with self.client.messages.stream(
                model=self.refusing(404), max_tokens=9, messages=said
            ) as events:
                list(events)

        raises(anthropic.NotFoundError, stream)

    def cancel(self):
        said = [{"role": "user", "content": "left"}]
        with self.client.messages.stream(model=self.model, max_tokens=200, messages=said) as stream:
            next(iter(stream))


class Gemini(Caller):
    """generateContent."""

    name = "gemini"

    def __init__(self, model):
        self.model = model
        options = types.HttpOptions(base_url=BASE, timeout=20_000)
        self.client = genai.Client(api_key="unused", http_options=options)

    def ask(self, contents, **config):
        config = types.GenerateContentConfig(**config) if config else None
        return self.client.models.generate_content(model=self.model, contents=contents, config=config)

    def chat(self):
        answer = self.ask("chat", system_instruction="be brief")
        assert answer.text and answer.usage_metadata.total_token_count > 0
        assert answer.candidates[0].finish_reason == types.FinishReason.STOP

    def stream(self):
        chunks = list(self.client.models.generate_content_stream(model=self.model, contents="stream, please"))
        assert "".join(chunk.text or "" for chunk in chunks) == self.ask("stream, please").text
        assert len(chunks) > 1 and chunks[-1].usage_metadata.candidates_token_count > 0

    def tools(self):
        declared = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
        config = {
            "tools": [types.Tool(function_declarations=[declared])],
            "automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True),
        }
        said = [types.Content(role="user", parts=[types.Part(text="the weather in parallel")])]
        answer = self.ask(said, **config)
        calls = answer.function_calls
        assert len(calls) == 2 and all("city" in call.args for call in calls)
        said.append(answer.candidates[0].content)
        results = [
            types.FunctionResponse(id=call.id, name=call.name, response={"output": "sunny"}) for call in calls
        ]
        said.append(
            types.Content(role="user", parts=[types.Part(function_response=result) for result in results])
        )
        assert self.ask(said, **config).text

    def image(self):
        import base64

        part = types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")
        assert self.ask([part, "what is it?"]).text

    def schema(self):
        config = {"response_mime_type": "application/json", "response_json_schema": SCHEMA}
        assert "city" in json.loads(self.ask("in JSON", **config).text)

    def long(self):
        said = [
            types.Content(role=("user", "model")[n % 2], parts=[types.Part(text=f"turn {n}")])
            for n in range(41)
        ]
        assert self.ask(said).text

    def errors(self):
        error = raises(genai_errors.ClientError, lambda: self.ask("x", cached_content="cachedContents/a"))
        assert error.code == 400, error

    def classes(self):
        create = lambda client, model: client.models.generate_content(model=model, contents="x")
        kinds = {404: genai_errors.ClientError, 429: genai_errors.ClientError, 500: genai_errors.ServerError}
        for status, kind in kinds.items():
            error = raises(kind, lambda: create(self.client, self.refusing(status)))
            assert error.code == status and "no, said" in str(error), error
            if status == 429:
                # Google's SDK reads no header.
                assert error.status == "RESOURCE_EXHAUSTED" and error.response.headers["retry-after"] == WAIT
        options = types.HttpOptions(base_url=BASE, timeout=20_000)
        stranger = genai.Client(api_key="wrong", http_options=options)
        error = raises(genai_errors.ClientError, lambda: create(stranger, self.model))
        assert error.code == 401, error

    def cancel(self):
        stream = self.client.models.generate_content_stream(model=self.model, contents="left")
        next(iter(stream))
        stream.close()


CASES = ["chat", "stream", "tools", "image", "schema", "long", "errors", "classes", "cancel"]


def main():
    global BASE
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--base", required=True)
    arguments.add_argument("--models", required=True)
    arguments.add_argument("--refusing", required=True, type=int)
    arguments = arguments.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.refusing), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    BASE = arguments.base.rstrip("/")
    passed = failed = 0
    for provider, model in (pair.split("=") for pair in arguments.models.split(",")):
        for caller in (OpenAi, Responses, Anthropic, Gemini):
            # Where the dialects are the same nothing is translated; suite.py looks at that.
            if caller.name == provider:
                continue
            suite = caller(model)
            suite.provider = provider
            for name in CASES:
                try:
                    getattr(suite, name)()
                    passed += 1
                    print(f"ok {caller.name} → {provider}: {name}", flush=True)
                except Exception as error:  # noqa: BLE001: every failure is reported, none ends the run
                    failed += 1
                    print(f"FAILED {caller.name} → {provider}: {name}: {error!r}", flush=True)
                    traceback.print_exc()
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
