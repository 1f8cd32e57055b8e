"""How much of the machine a batch of 1,000 texts uses: `batch.py PATH-TO-CHIMERA`.

Starts the gateway, sends `POST /api/v1/transform/batch` with 1,000 texts through normalize, redact and budget,
and reads the answer to its last byte. Efficiency is the processor time of the gateway over what there was for it:
the time of all cores, from the first byte sent to the last one read, less what this caller took of them itself. The
best of all runs is told, and the median.
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
import typing

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


class Run(typing.NamedTuple):
    """Seconds of one batch: as the clock saw it, and of processor time of the gateway and of its caller."""

    wall: float
    spent: float
    caller: float
    cores: int

    def share(self):
        return self.spent / (self.wall * self.cores)

    def efficiency(self):
        return self.spent / (self.wall * self.cores - self.caller)


def measure(pid, port, size):
    asked, buffer, runs = request(size), bytearray(1 << 20), []
    cores = os.cpu_count()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(RUNS):
            before, own, began = cpu(pid), time.thread_time(), time.perf_counter()
            connection.sendall(asked)
            answer(connection, buffer)
            wall, caller = time.perf_counter() - began, time.thread_time() - own
            runs.append(Run(wall, (cpu(pid) - before) / 1e9, caller, cores))
            time.sleep(0.05)
    best = max(runs, key=Run.efficiency)
    print(
        f"{size:5} bytes: {best.efficiency():.0%} of {cores} cores at best, {statistics.median(map(Run.efficiency, runs)):.0%} "
        f"in the median ({best.share():.0%} and {statistics.median(map(Run.share, runs)):.0%} with the caller's part); "
        f"the best took {best.wall * 1e3:.1f} ms, {best.spent * 1e3:.1f} ms of processor and {best.caller * 1e3:.1f} ms of "
        f"the caller's; fastest {min(run.wall for run in runs) * 1e3:.1f} ms"
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
