"""The service under load: live streams in real time, uploads at once, idle connections, memory over time.

    python benchmarks/service_load.py
    python benchmarks/service_load.py streams uploads

Service and clients are processes of one machine, so the clients take their share of its cores. What a part has measured
is kept in benchmarks/results/service_load.json, and the page is put together of all of them.
"""

import argparse
import base64
import contextlib
import itertools
import json
import multiprocessing
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypedDict
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import soundfile
from _measure import RESULTS, SAMPLE_RATE, finish, table, verdict, write_recording
from numpy.typing import NDArray

import sottovoce
from sottovoce.engine.files import enhance_files
from sottovoce.service.client import Client
from sottovoce.signal.resampling import resample

STREAM_PATH = "/v1/audio/enhancements/stream"
STREAMS = 32
STREAM_SECONDS = 60.0
# Model, rate in Hz and samples per block: the hop of each model, and 20 ms, of which most calls are made.
STREAM_CASES = (
    ("live", 16_000, 128),
    ("live", 16_000, 320),
    ("default", 16_000, 256),
    ("default", 16_000, 320),
    ("live", 48_000, 960),
    ("default", 48_000, 960),
)
# Until connections are open, and code and data are in the caches.
WARM_UP_SECONDS = 3.0
UPLOADS = 64
UPLOAD_SECONDS = 10
IDLE = 10_000
PROBES = 200
MEMORY_MINUTES = 30.0
MEMORY_STREAMS = 8
SAMPLE_SECONDS = 10.0
GROWTH_LIMIT_MIB = 4.0
RESAMPLES = 2000
KEPT = RESULTS / "service_load.json"


class Service:
    """A running `sottovoce serve`.

    Args:
        folder: What it keeps lies there.
        *flags: Of the command.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "sottovoce", "serve", "--port", "0", "--folder", str(folder), *flags]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        first = self._process.stderr.readline()
        if "serving at" not in first:
            sys.exit(f"the service does not start: {first}")
        self.address = first.split("serving at ")[1].split(";")[0]
        self.complaints: list[str] = []
        self._reading = threading.Thread(target=self._read_log)
        self._reading.start()
        while b"model_ready" not in self._readiness():
            time.sleep(0.1)

    def _readiness(self) -> bytes:
        with contextlib.suppress(OSError), urlopen(f"{self.address}/readyz") as answer:
            answer.read()
            return b"model_ready"
        return b""

    def _read_log(self) -> None:
        for line in self._process.stderr:
            if json.loads(line)["level"] in ("warning", "error"):
                self.complaints.append(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._reading.join()
        if code or self.complaints:
            sys.exit(f"the service ended with {code}, and complained of {self.complaints}")

    @property
    def processes(self) -> list[int]:
        """The service and its workers."""
        found = [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        return sum(map(cpu_seconds, self.processes))

    @property
    def pss_mib(self) -> float:
        """Memory of all its processes, where what several share counts once."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.processes]
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class LiveClient:
    """One live stream that writes its frames itself, as cheaply as can be."""

    def __init__(self, address: str, model: str, rate: int, block: NDArray[np.int16]) -> None:
        place = urlsplit(address)
        self.socket = socket.create_connection((place.hostname, place.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {STREAM_PATH} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._received = b""
        while b"\r\n\r\n" not in self._received:
            self._received += self.socket.recv(65536)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        if b" 101 " not in head.partition(b"\r\n")[0]:
            sys.exit(f"found no stream: {head.decode()}")
        start = {"rate": rate, "channels": 1, "format": "s16le", "model": model}
        self.socket.sendall(framed(json.dumps(start).encode(), text=True))
        while not self.texts(self.socket.recv(65536)):
            pass
        self.frame = framed(block.astype("<i2").tobytes())
        self.samples = 0
        self.socket.setblocking(False)

    def texts(self, data: bytes) -> list[str]:
        """Take what has come; count its samples, and return its texts."""
        received = self._received + data
        texts, at = [], 0
        while len(received) >= at + 4:
            size, start = received[at + 1], at + 2
            if size == 126:
                size, start = struct.unpack_from(">H", received, at + 2)[0], at + 4
            if len(received) < start + size:
                break
            if received[at] & 0xF == 1:
                texts.append(received[start : start + size].decode())
            elif received[at] & 0xF == 2:
                self.samples += size // 2
            else:
                sys.exit(f"found a frame of kind {received[at]:#x}: {received[start : start + size]!r}")
            at = start + size
        self._received = received[at:]
        return texts


def framed(data: bytes, *, text: bool = False) -> bytes:
    """Return a WebSocket frame of a client, with a mask of zeros, which leaves the data as they are."""
    size = struct.pack(">BB", 0x81 if text else 0x82, 0x80 | min(len(data), 126))
    return size + (struct.pack(">H", len(data)) if len(data) >= 126 else b"") + bytes(4) + data


def talk(address: str, model: str, rate: int, samples: int, streams: int, seconds: float) -> dict[str, Any]:
    """Send blocks of some streams in real time, each stream at times of its own, and time the answers.

    A block is answered when the samples have come that the engine's own stream gives for it.

    Returns:
        Times in s: of every answer, after its block was sent (`answers`), and of every block, after its own time
        (`lateness`); `cpu_seconds` of this process; `missing` answers.
    """
    noise = 0.05 * np.random.default_rng(0).standard_normal(samples)
    block = np.round(32_767 * noise).astype(np.int16)
    count = int(seconds * rate / samples)
    due = samples_due(model, rate, samples, count)
    clients = [LiveClient(address, model, rate, block) for _ in range(streams)]
    number = {client.socket.fileno(): client for client in clients}
    sent = np.zeros((streams, count))
    answered = np.full((streams, count), np.nan)
    next_answer = dict.fromkeys(number, 0)
    interval = samples / rate / streams
    poll = select.epoll()
    for file in number:
        poll.register(file, select.EPOLLIN)
    began, cpu = time.perf_counter() + 0.1, time.process_time()
    lateness = np.zeros(streams * count)
    turn = 0
    end = began + interval * streams * count + 2
    while (now := time.perf_counter()) < end:
        while turn < streams * count and now >= began + turn * interval:
            which, index = turn % streams, turn // streams
            clients[which].socket.send(clients[which].frame)
            now = time.perf_counter()
            sent[which, index] = now
            lateness[turn] = now - began - turn * interval
            turn += 1
        ready = poll.poll(0)
        if not ready:
            # epoll waits for whole milliseconds.
            select.select([poll.fileno()], [], [], min(max(0.0, began + turn * interval - now), 0.05))
            ready = poll.poll(0)
        for file, _ in ready:
            client = number[file]
            if texts := client.texts(client.socket.recv(65536)):
                sys.exit(f"found a text in a stream: {texts}")
            now = time.perf_counter()
            which = clients.index(client)
            at = next_answer[file]
            while at < count and due[at] <= client.samples:
                answered[which, at] = now
                at += 1
            next_answer[file] = at
        if turn == streams * count and all(at == count for at in next_answer.values()):
            break
    cpu = time.process_time() - cpu
    print(
        "DBG",
        next_answer,
        [c.samples for c in clients],
        due[-1],
        sent[:, -1] - began,
        turn,
        time.perf_counter() - began,
    )
    for client in clients:
        client.socket.close()
    # A block for which nothing is due is answered with the one before.
    is_answer = np.diff(due, prepend=0) > 0
    is_answer[: int(WARM_UP_SECONDS * rate / samples)] = False
    times = (answered - sent)[:, is_answer]
    return {
        "answers": times[np.isfinite(times)].tolist(),
        "missing": int((~np.isfinite(times)).sum()),
        "lateness": lateness.tolist(),
        "cpu_seconds": cpu,
    }


def samples_due(model: str, rate: int, samples: int, count: int) -> NDArray[np.int64]:
    """Return how many samples the engine's stream has given after each block."""
    stream = sottovoce.load(model).stream(rate, live=True)
    return np.cumsum([stream.push(np.zeros((1, samples), np.float32)).shape[1] for _ in range(count)])


def engine_share(model: str, rate: int, samples: int) -> float:
    """Return the processor time of the engine's stream alone, per second of sound."""
    stream = sottovoce.load(model).stream(rate, live=True)
    block = np.float32(0.05) * np.random.default_rng(0).standard_normal((1, samples), dtype=np.float32)
    shares = []
    for _ in range(12):
        start = time.process_time()
        for _ in range(rate // samples):
            stream.push(block)
        shares.append(time.process_time() - start)
    return float(np.median(shares[2:]))


def in_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a fresh process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def streams_part(options: argparse.Namespace) -> dict[str, Any]:
    """Measure live streams in real time."""
    rows = []
    for model, rate, samples in STREAM_CASES:
        engine = in_process(engine_share, model, rate, samples)
        with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
            cpu = service.cpu_seconds
            found = in_process(talk, service.address, model, rate, samples, options.streams, options.seconds)
            cpu = service.cpu_seconds - cpu
        answers = 1000 * np.array(found["answers"])
        rows.append(
            {
                "model": model,
                "rate": rate,
                "samples": samples,
                "answers": len(answers),
                "missing": found["missing"],
                "percentiles": np.percentile(answers, (50, 99, 99.9, 100)).tolist(),
                "lateness": 1000 * float(np.percentile(found["lateness"], 99)),
                "engine_share": engine,
                "service_share": cpu / (options.streams * options.seconds),
                "client_share": found["cpu_seconds"] / (options.streams * options.seconds),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return {"streams": options.streams, "seconds": options.seconds, "rows": rows}


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--streams", type=int, default=STREAMS)
    p.add_argument("--seconds", type=float, default=STREAM_SECONDS)
    p.add_argument("--case", type=int, nargs="*")
    o = p.parse_args()
    if o.case:
        STREAM_CASES = tuple(STREAM_CASES[i] for i in o.case)
    streams_part(o)
