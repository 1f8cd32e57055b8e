"""A headless Chromium over its DevTools protocol: as much of it as the console's tests need."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request

import websocket

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
]
PATIENCE = 20.0


class Browser:
    """A Chromium with an empty profile."""

    def __init__(self, program="chromium"):
        self.profile = tempfile.mkdtemp(prefix="chimera-console-")
        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        port_file = os.path.join(self.profile, "DevToolsActivePort")
        deadline = time.time() + PATIENCE
        while not (os.path.exists(port_file) and open(port_file).read().count("\n") >= 1):
            if time.time() > deadline or self.process.poll() is not None:
                raise RuntimeError("chromium did not start")
            time.sleep(0.05)
        self.port = int(open(port_file).read().split("\n")[0])

    def page(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return Page(json.load(answer)["webSocketDebuggerUrl"])

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    """One tab, and everything that it said: requests, errors, violations of its policy."""

    def __init__(self, url):
        self.socket = websocket.create_connection(url, timeout=PATIENCE, suppress_origin=True)
        self.next = 0
        # Answers that came while another call, made from within, was waited for.
        self.answers = {}
        self.requests = {}
        self.errors = []
        self.violations = []
        for domain in ["Page", "Runtime", "Network", "Log", "Audits", "Performance"]:
            self.call(f"{domain}.enable")
        # What the policy forbade is told by the page itself, too.
        self.call("Page.addScriptToEvaluateOnNewDocument", source=(
            "globalThis.violations = []; document.addEventListener('securitypolicyviolation', "
            "(event) => violations.push(event.violatedDirective + ' ' + event.blockedURI));"
        ))

    def call(self, method, **params):
        self.next += 1
        number = self.next
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = self.answers.pop(number, None) or json.loads(self.socket.recv())
            if message.get("id") not in (None, number):
                self.answers[message["id"]] = message
            elif message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            else:
                self.note(message)

    def note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            self.requests[params["requestId"]] = {"url": url, "type": params.get("type"), "bytes": 0}
        elif method == "Network.responseReceived" and params["requestId"] in self.requests:
            request, response = self.requests[params["requestId"]], params["response"]
            request["status"], request["headers"] = response["status"], response["headers"]
            request["cached"] = bool(response.get("fromDiskCache"))
        elif method == "Network.loadingFinished" and params["requestId"] in self.requests:
            self.requests[params["requestId"]]["bytes"] = params["encodedDataLength"]
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        elif method == "Audits.issueAdded" and "contentSecurityPolicy" in json.dumps(params["issue"]):
            self.violations.append(json.dumps(params["issue"]["details"]))

    def listen(self, seconds):
        """Takes in what the browser tells for so long."""
        end = time.time() + seconds
        while (left := end - time.time()) > 0:
            self.socket.settimeout(left)
            try:
                self.note(json.loads(self.socket.recv()))
            except websocket.WebSocketTimeoutException:
                break
        self.socket.settimeout(PATIENCE)

    def go(self, url):
        self.call("Page.navigate", url=url)

    def js(self, expression):
        """What an expression comes to; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def until(self, expression, what=None, patience=PATIENCE):
        """Waits until an expression is true."""
        deadline = time.time() + patience
        while time.time() < deadline:
            try:
                value = self.js(f"!!({expression})")
            except (AssertionError, RuntimeError):
                value = None
            if value:
                return value
            self.listen(0.03)
        text = self.js("document.body?.innerText")
        raise AssertionError(f"this did not come to be: {what or expression}\n{text}\n{self.errors}")

    def key(self, key, text=None, modifiers=0):
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, " ": 32, "End": 35}
        params = {"key": key, "code": key if key != " " else "Space", "modifiers": modifiers,
                  "windowsVirtualKeyCode": codes.get(key, 0)}
        text = text or {"Enter": "\r", " ": " "}.get(key)
        self.call("Input.dispatchKeyEvent", type="keyDown", **params, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **params)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def click(self, selector):
        """A click of the mouse in the middle of what is found; fails where something else lies over it."""
        box = self.js(f"""(() => {{
            const found = {find(selector)};
            if (!found) throw new Error('there is no ' + {json.dumps(selector)});
            found.scrollIntoView({{ block: 'center' }});
            const box = found.getBoundingClientRect();
            const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
            const there = document.elementFromPoint(x, y);
            if (!found.contains(there)) throw new Error('something lies over ' + {json.dumps(selector)});
            return [x, y];
        }})()""")
        for kind in ["mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def size(self, width, height=900, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def theme(self, theme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def screenshot(self, path):
        size = self.js("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], 4000), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def close(self):
        self.socket.close()


def find(selector):
    """The element of a selector, or `tag:text` for the first with this text."""
    if ":" in selector and not selector.startswith(("#", ".", "[")):
        tag, text = selector.split(":", 1)
        return (f"[...document.querySelectorAll({json.dumps(tag)})]"
                f".find((one) => one.textContent.trim() === {json.dumps(text)} && one.offsetParent !== null)")
    return f"document.querySelector({json.dumps(selector)})"
