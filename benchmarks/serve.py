"""Loads a server of a store: requests a second and waits, beside an endpoint that does nothing.

    python benchmarks/serve.py [--codes N] [--clients N] [--seconds S] [--workers N]

Makes a store of N codes of 64 bits around 100 centres (p = .04) with paths as keys, serves it with `fasthash serve`,
and lets clients search, each on its own connection, in batches of 1 and of 64, k = 10, while a writer commits 1,000
more codes about every second. Every answer is compared with an exact search of the first codes: a code that was there
must come at its distance, in its place among those that were there. /healthz, asked the same way, is the endpoint that
does nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import fasthash as fh
from workloads import cpu_name, learned_like

K, PER_COMMIT = 10, 1_000


class Client(threading.Thread):
    """Sends one request after the other until the end; counts wrong answers."""

    def __init__(self, port, end, requests, first):
        super().__init__()
        self.port, self.end, self.requests, self.next = port, end, requests, first
        self.seconds, self.errors, self.wrong = [], 0, 0

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while (begin := time.perf_counter()) < self.end:
            method, path, body, right = self.requests[self.next % len(self.requests)]
            self.next += 1
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = response.read()
            self.seconds.append(time.perf_counter() - begin)
            if response.status != 200:
                self.errors += 1
            elif right is not None and not right(json.loads(answer)["results"]):
                self.wrong += 1
        connection.close()


def judge(distances, ids, n):
    """Whether results are right: with codes that were added since, whose ids are from n on, between the others."""

    def right(results):
        if len(results) != len(ids):
            return False
        for found, far, names in zip(results, distances.tolist(), ids.tolist(), strict=True):
            old = [(each["distance"], each["id"]) for each in found if each["id"] < n]
            whole = [(each["distance"], each["id"]) for each in found]
            if len(found) != K or whole != sorted(whole) or old != list(zip(far, names, strict=True))[: len(old)]:
                return False
        return True

    return right


def searches(index, queries, batch, n):
    """Requests for /search/raw, with what judges their answers."""
    requests = []
    for first in range(0, len(queries) - batch + 1, batch):
        some = queries[first : first + batch]
        found = index.search(some, K)
        requests.append(("POST", f"/search/raw?k={K}", some.tobytes(), judge(found.distances, found.ids, n)))
    return requests


def load(port, requests, n_clients, seconds):
    """Let clients ask; return seconds of each request, errors and wrong answers."""
    end = time.perf_counter() + seconds
    clients = [Client(port, end, requests, i * 7) for i in range(n_clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took = np.concatenate([client.seconds for client in clients])
    return took, sum(client.errors for client in clients), sum(client.wrong for client in clients)


def commits(folder, stop, counted):
    """Add and commit about every second until told to stop."""
    rng = np.random.default_rng(1)
    with fh.Store(folder, "w") as store:
        while not stop.wait(1.0):
            keys = [f"new/{counted[0]}/{i}.jpg" for i in range(PER_COMMIT)]
            store.add(rng.integers(0, 256, (PER_COMMIT, 8), dtype=np.uint8), keys=keys)
            store.commit()
            counted[0] += 1


def started(folder, workers):
    """A server, and its port, when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fasthash", "serve", str(folder), "--port", str(port), "--workers", str(workers)]
    server = subprocess.Popen([*command, "--max-searches", "64"])
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return server, port
        except OSError:
            time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=1_000_000, help="number of codes")
    parser.add_argument("--clients", type=int, default=16, help="clients at one time")
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    options = parser.parse_args()
    codes, queries = learned_like(options.codes, 1024, 0.04)
    with tempfile.TemporaryDirectory(dir=".") as made:
        folder = Path(made) / "store.fhs"
        with fh.Store(folder, "w", n_bits=64) as store:
            store.add(codes, keys=[f"gallery/{i // 1000:06d}/{i:09d}.jpg" for i in range(options.codes)])
            store.commit()
            index = store.to_index()
            runs = {
                "/healthz, nothing to do": [("GET", "/healthz", None, None)],
                "/search/raw, batches of 1": searches(index, queries, 1, options.codes),
                "/search/raw, batches of 64": searches(index, queries, 64, options.codes),
            }
        server, port = started(folder, options.workers)
        stop, counted = threading.Event(), [0]
        writer = threading.Thread(target=commits, args=(folder, stop, counted))
        print(f"{options.codes:,} codes of 64 bits; {cpu_name()}, {os.cpu_count()} cores; {' '.join(sys.argv)}\n")
        print("| request | a second | median, p99 ms | errors | wrong |\n| --- | ---: | ---: | ---: | ---: |")
        writer.start()
        try:
            for what, requests in runs.items():
                took, errors, wrong = load(port, requests, options.clients, options.seconds)
                median, most = np.percentile(took, [50, 99]) * 1e3
                rate = len(took) / options.seconds
                print(f"| {what} | {rate:,.0f} | {median:.1f}, {most:.1f} | {errors} | {wrong} |", flush=True)
        finally:
            stop.set()
            writer.join()
            server.terminate()
            server.wait()
        print(f"\n{counted[0]} commits of {PER_COMMIT:,} codes meanwhile")


if __name__ == "__main__":
    main()
