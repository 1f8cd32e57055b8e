"""Gateways for the console's tests to look at."""

import http.server
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

# Markup wherever a name or a text may stand. None of it may ever be more than text.
HOSTILE = "<img src=x onerror=pwned=1 ><script>pwned=1 </script>"


class Gateway:
    """A `chimera serve` on free ports."""

    def __init__(self, program, folder, name, config="", listen=("127.0.0.1:0", "127.0.0.1:0")):
        self.path = os.path.join(folder, f"{name}.toml")
        self.program = program
        with open(self.path, "w") as file:
            file.write(config)
        self.start(listen)

    def start(self, listen):
        keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "REDIS_URL"]
        environment = {name: value for name, value in os.environ.items() if name not in keys}
        self.process = subprocess.Popen(
            [self.program, "serve", "--config", self.path, "--listen", listen[0], "--admin-listen", listen[1]],
            stdout=subprocess.PIPE, stderr=open(self.path + ".log", "w"), text=True, env=environment,
        )
        self.data = self.admin = None
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["listening"]:
                self.data = words[1]
            if words[:1] == ["admin"]:
                self.admin = words[1]
                break
        if not self.admin:
            raise RuntimeError("the gateway did not start")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def chat(self, model, text, key=None, stream=False):
        """The status of a chat call."""
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        return self.ask(self.data + "/v1/chat/completions", body, headers)[0]

    def ask(self, url, body=None, headers=None):
        payload = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=payload, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def json(self, path):
        return json.loads(self.ask(self.admin + path)[1])

    def stop(self):
        self.process.kill()
        self.process.wait()


class Pupil(http.server.ThreadingHTTPServer):
    """A model that does what its instruction has a rule for, and finds missing rules by feedback, one at a time.

    It stands behind a gateway as any provider does; its models differ in the time that they take.
    """

    daemon_threads = True
    SECONDS = {"quick": 0.1, "steady": 0.4, "slow": 1.0}
    KINDS = {"up": str.upper, "back": lambda word: word[::-1], "twice": lambda word: word * 2}

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Pupil.Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @staticmethod
    def task(name, model, evaluations):
        """A job for it, in the form that the gateway takes."""
        words = iter(f"{a}{b}{c}" for a in "kmprst" for b in "aeiou" for c in "lnx")

        def examples(each):
            pairs = [(kind, next(words)) for kind in Pupil.KINDS for _ in range(each)]
            return [{"input": f"{kind} {word}", "expected": Pupil.KINDS[kind](word)} for kind, word in pairs]

        return {"name": name, "model": model, "prompt": "Answer.", "evaluators": [{"kind": "exact"}],
                "data": {"train": examples(3), "validation": examples(4), "held_out": examples(2)},
                "budget": {"evaluations": evaluations}}

    @staticmethod
    def answer(system, user):
        if not system.startswith("You improve prompts"):
            kind, word = user.split()
            return Pupil.KINDS[kind](word) if f"Rule {kind}." in system else word
        prompt = re.search(r"```\n(.*?)\n```", user, re.DOTALL).group(1)
        failed = re.findall(r"## Input\n(\w+) \w+\n## Output\n.*?\n## Score\n0\.00", user)
        kind = failed[0] if failed else "nothing"
        return f"It lacks the rule {kind}. {HOSTILE}\n```\n{prompt}\nRule {kind}. {HOSTILE}\n```"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            system, user = [message["content"] for message in asked["messages"]]
            time.sleep(Pupil.SECONDS[asked["model"]])
            message = {"role": "assistant", "content": Pupil.answer(system, user)}
            body = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"],
                               "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                               "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            try:
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                # The calls of a job that is cancelled are dropped.
                self.close_connection = True

        def log_message(self, *_):
            pass


def report(folder):
    """A load report such as chimera-load writes, from somebody who cannot be trusted."""
    times = {"count": 10, "mean": 0.1, "p50": 0.1, "p90": 0.2, "p95": 0.3, "p99": 0.4, "p999": 0.5, "max": 0.6}
    numbers = {"ok": 10, "failed": 1, "error_rate": 0.09, "throughput": 5.0, "hit_rate": 0.5, "latency": times,
               "tokens_per_second": 12.5}
    rows = [{"at": at, "offered": 5, "throughput": 5, "p50": 0.1, "p95": 0.2 + at / 100, "p99": 0.4} for at in range(1, 30)]
    made = {"scenario": HOSTILE, "target": "http://127.0.0.1:1", "shape": "open", "began": int(time.time()), "seconds": 30,
            "overall": numbers, "mixes": {HOSTILE: numbers}, "curve": [[50, 0.1], [90, 0.2], [99, 0.4], [100, 0.6]],
            "timeline": rows, "refused": None,
            "verdicts": [{"threshold": "p95 < 10s", "value": 0.3, "shown": "300 ms", "held": True},
                         {"threshold": HOSTILE, "value": None, "shown": HOSTILE, "held": False}]}
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "hostile.json"), "w") as file:
        json.dump(made, file)


def config(simulated, reports, pupil):
    """Everything that the pages can show, with hostile names where names are free."""
    name = json.dumps(HOSTILE)
    return f"""
[console]
load_reports = "{reports}"
[console.prices."sim"]
input = 1000
output = 1000
[breaker]
consecutive_failures = 3
open_base = "30s"
[providers.sim]
dialect = "openai"
base_url = "{simulated}/v1"
api_key = "sk-canary"
requests_per_minute = 6000
[providers.ill]
dialect = "openai"
base_url = "http://127.0.0.1:9/v1"
[providers.pupil]
dialect = "openai"
base_url = "{pupil}/v1"
[groups.strange]
deployments = [{{ provider = "sim", model = {name} }}]
[groups.ill]
deployments = [{{ provider = "ill", model = "m" }}]
[transforms.private]
steps = ["normalize", "redact"]
"""
