"""What the gateway sends a collector of traces, read by OpenTelemetry's own definition of the protocol.

    python traces.py --base http://127.0.0.1:8080 --collect 4318

The gateway must send its traces to that port of loopback and answer from its simulated provider.
"""

import argparse
import http.server
import queue
import sys
import threading

import openai
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

EXPORTS = queue.Queue()


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        EXPORTS.put((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def spans(wanted):
    """The spans of the next exports, until there are so many. Ids are hex in OTLP's JSON, which the general mapping
    of protocol buffers reads as base64: what they are is not looked at here, only which of them are the same."""
    found = []
    while len(found) < wanted:
        path, kind, body = EXPORTS.get(timeout=20)
        assert (path, kind) == ("/v1/traces", "application/json"), (path, kind)
        message = json_format.Parse(body, trace_service_pb2.ExportTraceServiceRequest())
        for resource in message.resource_spans:
            named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            assert named["service.name"] == "sdk-suite", named
            for scope in resource.scope_spans:
                found.extend(scope.spans)
    return found


def attributes(span):
    kinds = {pair.key: pair.value.WhichOneof("value") for pair in span.attributes}
    return {pair.key: getattr(pair.value, kinds[pair.key]) for pair in span.attributes}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--base", required=True)
    arguments.add_argument("--collect", type=int, required=True)
    arguments = arguments.parse_args()
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.collect), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    client = openai.OpenAI(base_url=arguments.base + "/v1", api_key="unused", max_retries=0, timeout=20)
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    client.chat.completions.create(
        model="sim-small",
        messages=[{"role": "user", "content": "hello"}],
        extra_headers={"traceparent": context},
    )
    request, call = spans(2)
    assert request.kind == trace_pb2.Span.SPAN_KIND_SERVER, request
    assert call.kind == trace_pb2.Span.SPAN_KIND_CLIENT, call
    assert call.parent_span_id == request.span_id and request.trace_id == call.trace_id
    assert request.start_time_unix_nano <= call.start_time_unix_nano <= call.end_time_unix_nano
    assert attributes(request)["http.response.status_code"] == 200, request
    said = attributes(call)
    assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.request.model"] == "sim-small", said
    assert said["gen_ai.usage.input_tokens"] > 0 and said["gen_ai.usage.output_tokens"] > 0, said
    print("traces ok")
    sys.exit(0)


if __name__ == "__main__":
    main()
