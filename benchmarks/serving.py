"""Requests per second, latency and CPU time of `fer-jax serve`: REST beside the page's interface.

    python -m benchmarks.serving [--run runs/demo] [--clients 1 8 50] [--seconds 8] [--rounds 3]

One server answers both. In every round each number of clients sends the same rendered portrait for
some seconds, first over REST, then as the page does: upload, enter gradio's queue, wait for the
event stream. Each client sends its next request when the last one is answered. The page also draws
the annotated photo, one photo at a time.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "fer_jax/serve/examples/1_happiness.jpg"

Send = Callable[[http.client.HTTPConnection], None]
"""Sends one photo and waits for its answer."""


def start(run: Path | None, *flags: str) -> tuple[subprocess.Popen[str], int, float]:
    """Starts a server; returns it, its port, and the seconds until it listened."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "fer_jax", "serve", *([str(run)] if run else []), *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    match = re.search(r":(\d+)/", process.stdout.readline())
    if match is None:
        raise SystemExit(f"{' '.join(command)} did not start")
    return process, int(match[1]), time.perf_counter() - begun


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: bytes | None, kind: str
) -> bytes:
    """Returns the content of an answer with status 200."""
    client.request(method, path, body, {"Content-Type": kind} if body else {})
    answer = client.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}: {content[:200]!r}")
    return content


def send_rest(client: http.client.HTTPConnection) -> None:
    """Sends the photo over REST."""
    answer = json.loads(ask(client, "POST", "/predict", PHOTO.read_bytes(), "image/jpeg"))
    assert len(answer["photos"][0]["faces"]) == 1


def page_sender(port: int) -> Send:
    """Returns what sends the photo as the page's script does."""
    config = json.loads(
        ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/config", None, "")
    )
    # The function that the page calls has the photo and three boxes as inputs.
    function = next(one["id"] for one in config["dependencies"] if len(one["inputs"]) == 4)
    boundary = "7e1a"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n'
    form = head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + PHOTO.read_bytes()
    form += f"\r\n--{boundary}--\r\n".encode()

    def send(client: http.client.HTTPConnection) -> None:
        kind = f"multipart/form-data; boundary={boundary}"
        (path,) = json.loads(ask(client, "POST", "/gradio_api/upload", form, kind))
        session = uuid.uuid4().hex
        photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
        event = {
            "data": [photo, True, False, False], "fn_index": function, "session_hash": session,
        }  # fmt: skip
        ask(
            client, "POST", "/gradio_api/queue/join", json.dumps(event).encode(), "application/json"
        )
        stream = ask(client, "GET", f"/gradio_api/queue/data?session_hash={session}", None, "")
        assert b'"success":true' in stream, stream[-300:]

    return send


def cpu_seconds(process: int) -> float:
    """Returns the CPU time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(send: Send, port: int, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Returns requests per second, and the seconds of each request."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    def run() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while (begun := time.perf_counter()) < end:
            send(client)
            taken.append(time.perf_counter() - begun)
        client.close()

    begun = time.perf_counter()
    with futures.ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(run) for _ in range(clients)]:
            done.result()
    return len(taken) / (time.perf_counter() - begun), taken


def main() -> None:
    """Prints a row per interface and number of clients."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, help="run directory (default: the shipped model)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 50])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for _ in range(2):  # the first also compiles for the next
        process, _, seconds = start(options.run, "--no_page")
        process.terminate()
        process.wait()
    print(f"start with --no_page: {seconds:.1f} s")
    process, port, seconds = start(options.run)
    print(f"start with the page: {seconds:.1f} s", flush=True)
    try:
        senders = {"REST": send_rest, "page": page_sender(port)}
        rates: dict[tuple[str, int], list[float]] = {}
        times: dict[tuple[str, int], list[float]] = {}
        work: dict[tuple[str, int], float] = {}
        for send in senders.values():  # gradio prepares itself at the first request
            measure(send, port, 2, 1.0)
        for _, count, name in itertools.product(range(options.rounds), options.clients, senders):
            before = cpu_seconds(process.pid)
            rate, taken = measure(senders[name], port, count, options.seconds)
            spent = cpu_seconds(process.pid) - before
            work[name, count] = work.get((name, count), 0.0) + spent
            rates.setdefault((name, count), []).append(rate)
            times.setdefault((name, count), []).extend(taken)
    finally:
        process.terminate()
        process.wait()
    print(
        "| clients | interface | requests/s (range) | of the page | p50, ms | p99, ms | "
        "CPU ms/request |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count, name in itertools.product(options.clients, senders):
        own, page = rates[name, count], rates["page", count]
        low, high = np.percentile(times[name, count], [50, 99]) * 1000
        cpu = 1000 * work[name, count] / len(times[name, count])
        ratio = statistics.median(one / other for one, other in zip(own, page, strict=True))
        print(
            f"| {count} | {name} | {statistics.median(own):.1f} ({min(own):.1f} to "
            f"{max(own):.1f}) | {ratio:.2f} | {low:,.0f} | {high:,.0f} | {cpu:.0f} |"
        )


if __name__ == "__main__":
    main()
