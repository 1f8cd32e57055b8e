"""How much of the machine a batch of 1,000 texts uses: `batch.py PATH-TO-CHIMERA`.

Starts the gateway, sends `POST /api/v1/transform/batch` with 1,000 texts through normalize, redact and budget,
and reads the answer to its last byte. Efficiency is the processor time of the gateway over the time of all cores
from when the last byte was sent, and from when the first was. The best of all runs is told, and the median.
"""

import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 200
SENTENCES = [
    "The committee met on the second floor and spoke for most of the afternoon about the new library. ",
    "Nobody had expected that the river would rise so quickly, or that the bridge would hold. ",
    "In 2019 the museum counted about 12,500 visitors, a third more than in the year before. ",
    "She closed the door, put the kettle on, and began to read the letter once more. ",
    "A well-known method sorts the values first and then walks through them from both ends. ",
    "Most of these questions were answered long ago; the others will wait until the spring. ",
]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def request(size):
    chance = random.Random(7)

    def text():
        words = ""
        while len(words) < size:
            words += chance.choice(SENTENCES)
        return words

    body = json.dumps({
        "steps": ["normalize", "redact", "budget"],
        "budget": {"tokens": 100000, "model": "gpt-4o"},
        "items": [{"text": text()} for _ in range(1000)],
    }).encode()
    head = f"POST /api/v1/transform/batch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def cpu(pid):
    """Nanoseconds that the threads of a process have run."""
    spent = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
            spent += int(stat.read().split()[0])
    return spent


def answer(connection, buffer):
    """Reads a whole answer, chunked or not; says how many bytes it has."""
    got = connection.recv_into(buffer)
    head = bytes(buffer[:got])
    end = head.index(b"\r\n\r\n") + 4
    assert head.startswith(b"HTTP/1.1 200"), head[:300]
    length = re.search(rb"content-length: (\d+)", head[:end].lower())
    total, tail = got, head[-7:]
    while not (total == end + int(length[1]) if length else tail.endswith(b"0\r\n\r\n")):
        more = connection.recv_into(buffer)
        total += more
        tail = (tail + bytes(buffer[max(0, more - 7):more]))[-7:]
    return total


def measure(pid, port, size):
    asked, buffer, runs = request(size), bytearray(1 << 20), []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(RUNS):
            before, began = cpu(pid), time.perf_counter()
            connection.sendall(asked)
            sent = time.perf_counter()
            answer(connection, buffer)
            ended = time.perf_counter()
            runs.append((ended - began, ended - sent, (cpu(pid) - before) / 1e9))
            time.sleep(0.05)
    cores = os.cpu_count()
    efficiency = [spent / (wall * cores) for wall, _, spent in runs]
    best = max(range(RUNS), key=lambda run: efficiency[run])
    wall, behind, spent = runs[best]
    print(
        f"{size:5} bytes: {wall * 1e3:.1f} ms, {behind * 1e3:.1f} ms behind the last byte sent, "
        f"{spent * 1e3:.1f} ms of processor: {efficiency[best]:.0%} of {cores} cores; "
        f"median {statistics.median(efficiency):.0%}; fastest {min(runs)[0] * 1e3:.1f} ms, "
        f"least processor {min(run[2] for run in runs) * 1e3:.1f} ms"
    )


def main():
    port, admin = free_port(), free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(f'[log]\nlevel = "error"\n[server]\nlisten = "127.0.0.1:{port}"\n')
        file.write(f'admin_listen = "127.0.0.1:{admin}"\n[providers.none]\ndialect = "openai"\n')
        file.write('base_url = "http://127.0.0.1:9/v1"\nmodels = []\n')
        file.flush()
        gateway = subprocess.Popen([sys.argv[1], "serve", "--config", file.name])
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            for size in (2048, 8192):
                measure(gateway.pid, port, size)
        finally:
            gateway.terminate()
            gateway.wait()


main()
