"""The service under load: live streams in real time, uploads at once, idle connections, memory over time.

    python benchmarks/service_load.py
    python benchmarks/service_load.py streams uploads
    python benchmarks/service_load.py streams --cases 1 3

Service and clients are processes of one machine, so the clients take their share of its cores. What a part has measured
is kept in benchmarks/results/service_load.json, and the page is put together of all of them.
"""

import argparse
import base64
import contextlib
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
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from _measure import RESULTS, SAMPLE_RATE, finish, table, verdict, write_recording
from numpy.typing import NDArray

import sottovoce
from sottovoce.engine.enhancer import advance
from sottovoce.engine.files import enhance_files
from sottovoce.errors import SottovoceError
from sottovoce.service.client import Client

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
MEMORY_STREAMS = 4
SAMPLE_SECONDS = 10.0
GROWTH_LIMIT_MIB = 4.0
RESAMPLES = 2000
# Of Linux; Python has no name for it. A socket then says with what it has received when that came.
SO_TIMESTAMPNS = 35
_TIME = struct.Struct("qq")
KEPT = RESULTS / "service_load.json"


class Service:
    """A running `sottovoce serve`.

    Args:
        folder: What it keeps lies there.
    """

    def __init__(self, folder: Path) -> None:
        # All clients of a benchmark have one address.
        limits = ["--client-requests", "1000000", "--client-minutes", "1000000", "--client-streams", str(STREAMS)]
        command = [sys.executable, "-m", "sottovoce", "serve", "--port", "0", "--folder", str(folder), *limits]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        first = self._process.stderr.readline()
        if "serving at" not in first:
            sys.exit(f"the service does not start: {first}")
        self.address = first.split("serving at ")[1].split(";")[0]
        self.complaints: list[str] = []
        self._reading = threading.Thread(target=self._read_log)
        self._reading.start()
        while not answers(f"{self.address}/readyz"):
            time.sleep(0.1)

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
    def pid(self) -> int:
        """Number of its first process."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        return sum(cpu_seconds(self.pid).values())

    @property
    def pss_mib(self) -> float:
        """Memory of all its processes, where what several share counts once."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in processes(self.pid)]
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


def answers(address: str) -> bool:
    """Say whether a GET is answered with 200."""
    with contextlib.suppress(OSError), urlopen(address, timeout=30) as answer:
        answer.read()
        return True
    return False


def processes(pid: int) -> list[int]:
    """Return a process, and all that it has started."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> dict[int, float]:
    """Return the processor time so far of a process, and of all that it has started."""
    found = {}
    for one in processes(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        found[one] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def busy_seconds() -> float:
    """Return the processor time so far of everything on this machine."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


class Usage:
    """Processor time from now on, of this process, of those of a service, and of all others.

    Args:
        pid: The service's first process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began, self._own, self._service = time.perf_counter(), time.process_time(), cpu_seconds(pid)
        self._busy = busy_seconds()

    def cores(self) -> dict[str, float]:
        """Return what was taken per second: by the clients here, the service's first process, its others, the rest."""
        seconds = time.perf_counter() - self._began
        taken = {pid: (cpu - self._service.get(pid, 0.0)) / seconds for pid, cpu in cpu_seconds(self._pid).items()}
        cores = {
            "client_cores": (time.process_time() - self._own) / seconds,
            "server_cores": taken.pop(self._pid),
            "worker_cores": sum(taken.values()),
        }
        rest = (busy_seconds() - self._busy) / seconds - sum(cores.values())
        return {**cores, "rest_cores": max(0.0, rest)}


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
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def receive(self) -> tuple[bytes, float]:
        """Return what has come, and since when the system has had it, in s since 1970."""
        data, notes, *_ = self.socket.recvmsg(65536, socket.CMSG_SPACE(_TIME.size))
        seconds, nanoseconds = _TIME.unpack(notes[0][2])
        return data, seconds + 1e-9 * nanoseconds

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


def talk(address: str, pid: int, case: tuple[str, int, int], seconds: float) -> dict[str, Any]:
    """Send blocks in real time, each stream at times of its own, and time the answers.

    A case is a model, a rate and the samples of a block. A block is answered when the samples have come that the
    engine's own stream gives for it.

    Returns:
        Times in s: of every answer, after its block was sent, when the system had it (`answers`) and when it was read
        (`seen`), and of every block, after its own time (`lateness`); `missing` answers; `cores` after the warm-up, as
        of `Usage`.
    """
    model, rate, samples = case
    noise = 0.05 * np.random.default_rng(0).standard_normal(samples)
    block = np.round(32_767 * noise).astype(np.int16)
    count = int(seconds * rate / samples)
    due = samples_due(model, rate, samples, count)
    clients = [LiveClient(address, model, rate, block) for _ in range(STREAMS)]
    number = {client.socket.fileno(): client for client in clients}
    sent = np.zeros((STREAMS, count))
    answered, seen = np.full((2, STREAMS, count), np.nan)
    next_answer = dict.fromkeys(number, 0)
    interval = samples / rate / STREAMS
    poll = select.epoll()
    for file in number:
        poll.register(file, select.EPOLLIN)
    began = time.perf_counter() + 0.1
    usage, is_warm = Usage(pid), False
    lateness = np.zeros(STREAMS * count)
    turn = 0
    end = began + interval * STREAMS * count + 2
    while (now := time.perf_counter()) < end:
        if not is_warm and now >= began + WARM_UP_SECONDS:
            usage, is_warm = Usage(pid), True
        while turn < STREAMS * count and now >= began + turn * interval:
            which, index = turn % STREAMS, turn // STREAMS
            sent[which, index] = time.time()
            clients[which].socket.send(clients[which].frame)
            now = time.perf_counter()
            lateness[turn] = now - began - turn * interval
            turn += 1
        ready = poll.poll(0)
        if not ready:
            # epoll waits for whole milliseconds.
            select.select([poll.fileno()], [], [], min(max(0.0, began + turn * interval - now), 0.05))
            ready = poll.poll(0)
        for file, _ in ready:
            client = number[file]
            data, come = client.receive()
            if texts := client.texts(data):
                sys.exit(f"found a text in a stream: {texts}")
            which = clients.index(client)
            at = next_answer[file]
            while at < count and due[at] <= client.samples:
                answered[which, at], seen[which, at] = come, time.time()
                at += 1
            next_answer[file] = at
        if turn == STREAMS * count and all(at == count for at in next_answer.values()):
            break
    cores = usage.cores()
    for client in clients:
        client.socket.close()
    # A block for which nothing is due is answered with the one before.
    is_answer = np.diff(due, prepend=0) > 0
    is_answer[: int(WARM_UP_SECONDS * rate / samples)] = False
    times, seen = ((when - sent)[:, is_answer] for when in (answered, seen))
    return {
        "answers": times[np.isfinite(times)].tolist(),
        "seen": seen[np.isfinite(times)].tolist(),
        "missing": int((~np.isfinite(times)).sum()),
        "lateness": lateness.tolist(),
        "cores": cores,
    }


def samples_due(model: str, rate: int, samples: int, count: int) -> NDArray[np.int64]:
    """Return how many samples the engine's stream has given after each block."""
    stream = sottovoce.load(model).stream(rate, live=True)
    return np.cumsum([stream.push(np.zeros((1, samples), np.float32)).shape[1] for _ in range(count)])


def engine_share(model: str, rate: int, samples: int) -> float:
    """Return the processor time of the engine alone per second of sound, all streams in each call of the network."""
    enhancer = sottovoce.load(model)
    streams = [enhancer.stream(rate, live=True) for _ in range(STREAMS)]
    block = np.float32(0.05) * np.random.default_rng(0).standard_normal((1, samples), dtype=np.float32)
    shares = []
    for _ in range(12):
        start = time.process_time()
        for _ in range(rate // samples // 4):
            for stream in streams:
                stream.append(block)
            while waiting := [stream for stream in streams if stream.waiting_frames]:
                advance(waiting)
            for stream in streams:
                stream.take()
        shares.append((time.process_time() - start) / (rate // samples // 4 * samples / rate * STREAMS))
    return float(np.median(shares[2:]))


def in_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a fresh process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure_streams(arguments: argparse.Namespace) -> dict[str, Any]:
    """Live streams in real time; cases that are not measured stay as they were."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    rows = kept.get("streams", {"rows": []})["rows"] if arguments.cases else []
    for number in arguments.cases or range(1, 1 + len(STREAM_CASES)):
        model, rate, samples = case = STREAM_CASES[number - 1]
        rows = [row for row in rows if (row["model"], row["rate"], row["samples"]) != case]
        engine = in_process(engine_share, model, rate, samples)
        with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
            found = in_process(talk, service.address, service.pid, case, arguments.seconds)
        answer_ms, seen_ms = (1000 * np.array(found[kind]) for kind in ("answers", "seen"))
        rows.append(
            {
                "model": model,
                "rate": rate,
                "samples": samples,
                "answers": len(answer_ms),
                "missing": found["missing"],
                "answer_ms": np.percentile(answer_ms, (50, 99, 99.9)).tolist() if len(answer_ms) else [np.inf] * 3,
                "seen_ms": float(np.percentile(seen_ms, 99)) if len(seen_ms) else np.inf,
                "client_late_ms": 1000 * float(np.percentile(found["lateness"], 99)),
                "engine_share": engine,
                "seconds": arguments.seconds,
                **found["cores"],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    rows.sort(key=lambda row: STREAM_CASES.index((row["model"], row["rate"], row["samples"])))
    return {"rows": rows}


def streams_page(found: dict[str, Any]) -> list[str]:
    """Describe live streams."""
    rows = []
    for row in found["rows"]:
        deadline = 1000 * row["samples"] / row["rate"]
        p50, p99, p999 = row["answer_ms"]
        is_kept = verdict(p99 / deadline if not row["missing"] else np.inf, 1)
        share = (row["server_cores"] + row["worker_cores"]) / STREAMS
        rows.append(
            [
                *(row["model"], f"{row['rate']}", f"{deadline:g}"),
                *(f"{row['engine_share']:.4f}", f"{share:.4f}", f"{1 / share:.0f}"),
                *(f"{row['server_cores']:.2f}", f"{row['worker_cores']:.2f}", f"{row['client_cores']:.2f}"),
                *(f"{row['rest_cores']:.2f}", f"{p50:.1f}", f"{p99:.1f}", f"{p999:.1f}", f"{row['seen_ms']:.1f}"),
                *(f"{row['missing']}", is_kept),
            ]
        )
    seconds = " or ".join(f"{length:g}" for length in sorted({row["seconds"] for row in found["rows"]}))
    header = ["model", "at (Hz)", "block (ms)", "floor", "service", "streams per core"]
    header += ["cores: server", "its processes", "clients", "all else"]
    header += ["median (ms)", "99 % (ms)", "99.9 % (ms)", "99 % seen (ms)", "missing", "99 % within a block"]
    return [
        f"## {STREAMS} live streams in real time",
        f"{STREAMS} clients send blocks of one channel of 16 bits for {seconds} s, each at its own times. "
        "A block is answered when all samples have come that the engine's stream gives for it, and it is seen when the "
        "clients, one process that shares the machine, have read them. Its deadline is its own "
        "length: then the next one comes. **Floor** and **service** are processor time per second of one stream: of "
        f"the engine in one process that does nothing else, with all {STREAMS} streams in each call of the network, "
        "and of all processes of the service together. Cores are processor time per second of all streams: of the "
        "process that receives and sends, of those that enhance, of the clients, and of all else that ran on the "
        "machine meanwhile.",
        table(header, rows),
    ]


def measure_uploads(arguments: argparse.Namespace) -> dict[str, Any]:
    """Many recordings at once."""
    with tempfile.TemporaryDirectory() as name, Service(Path(name) / "state") as service:
        folder = Path(name)
        recording = write_recording(folder / "a.flac", UPLOAD_SECONDS)
        enhancer = sottovoce.load("default")
        enhancer.enhance(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
        start = time.process_time()
        enhance_files([recording], folder / "expected.flac", enhancer)
        floor = UPLOADS * (time.process_time() - start)
        expected = (folder / "expected.flac").read_bytes()
        before, start = service.cpu_seconds, time.perf_counter()
        found = in_process(upload, service.address, recording, UPLOADS)
        wall = time.perf_counter() - start
        cpu = service.cpu_seconds - before
        wrong = sum(content != expected for content in found["contents"])
    return {
        "errors": found["errors"],
        "wrong": wrong,
        "answer_seconds": np.percentile(found["seconds"], (50, 100)).tolist(),
        "wall_seconds": wall,
        "floor_cpu_seconds": floor,
        "cpu_seconds": cpu,
    }


def upload(address: str, recording: Path, count: int) -> dict[str, Any]:
    """Send a recording so many times at once, and return what came back, the errors and the times."""
    client = Client(address)
    contents, errors, seconds = [], [], []

    def enhance(number: int) -> None:
        target = recording.with_name(f"out{number}{recording.suffix}")
        start = time.perf_counter()
        try:
            client.enhance(recording, target)
        except SottovoceError as error:
            errors.append(str(error))
        else:
            seconds.append(time.perf_counter() - start)
            contents.append(target.read_bytes())

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(enhance, range(count)))
    return {"contents": contents, "errors": errors, "seconds": seconds}


def uploads_page(found: dict[str, Any]) -> list[str]:
    """Describe uploads."""
    median, longest = found["answer_seconds"]
    failed = len(found["errors"]) + found["wrong"]
    return [
        f"## {UPLOADS} uploads at once",
        f"{UPLOADS} clients send a FLAC of {UPLOAD_SECONDS} s at once. Errors: {len(found['errors'])}; files that "
        f"are not the command's, byte for byte: {found['wrong']} ({verdict(failed, 1)}). All were answered "
        f"within {found['wall_seconds']:.1f} s, the median after {median:.1f} s and the last after "
        f"{longest:.1f} s. **Floor**: the engine in one process takes {found['floor_cpu_seconds']:.1f} CPU s for as "
        f"many files; the service took {found['cpu_seconds']:.1f}.",
    ]


def measure_idle(arguments: argparse.Namespace) -> dict[str, Any]:
    """Connections that say nothing."""
    with tempfile.TemporaryDirectory() as name, Service(Path(name) / "state") as service:
        recording = write_recording(Path(name) / "a.flac", UPLOAD_SECONDS)
        before = service.pss_mib
        found: dict[str, Any] = in_process(idle, service.address, recording)
        return {**found, "growth_mib": service.pss_mib - before}


def idle(address: str, recording: Path) -> dict[str, Any]:
    """Open connections that say nothing, ask for the service's health, and send a recording meanwhile."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 100:
        sys.exit(f"found a limit of {hard} open files, expected {IDLE + 100}: raise it (`ulimit -n`)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 100, hard))
    place = urlsplit(address).hostname, urlsplit(address).port
    failed, seconds = 0, []
    with contextlib.ExitStack() as stack:
        for number in range(IDLE):
            stack.enter_context(socket.create_connection(place, timeout=30))
            if number % (IDLE // PROBES) == 0:
                start = time.perf_counter()
                failed += not answers(f"{address}/healthz")
                seconds.append(time.perf_counter() - start)
        Client(address).enhance(recording, recording.with_name("out.flac"))
    return {"failed": failed, "health_ms": (1000 * np.percentile(seconds, (50, 99))).tolist()}


def idle_page(found: dict[str, Any]) -> list[str]:
    """Describe idle connections."""
    median, late = found["health_ms"]
    return [
        f"## {IDLE:,} idle connections".replace(",", " "),
        f"One client opens {IDLE:,} connections and says nothing. Meanwhile ".replace(",", " ")
        + f"{PROBES} requests for `/healthz` were answered but for {found['failed']} ({verdict(found['failed'], 1)}), "
        f"after {median:.1f} ms (median) and {late:.1f} ms (99 %), and a recording was enhanced. Memory grew by "
        f"{found['growth_mib']:.1f} MiB.",
    ]


def measure_memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Memory over time under every kind of load."""
    with tempfile.TemporaryDirectory() as name, Service(Path(name) / "state") as service:
        recording = write_recording(Path(name) / "a.flac", UPLOAD_SECONDS)
        load = multiprocessing.get_context("spawn").Process(
            target=mixed_load, args=(service.address, recording, 60 * arguments.minutes)
        )
        load.start()
        began, samples = time.monotonic(), []
        while load.is_alive():
            samples.append((time.monotonic() - began, service.pss_mib))
            load.join(SAMPLE_SECONDS)
        if load.exitcode:
            sys.exit(f"the load ended with {load.exitcode}")
        counts = json.loads((Path(name) / "counts.json").read_text())
    return {"minutes": arguments.minutes, "samples": samples, "counts": counts}


def mixed_load(address: str, recording: Path, seconds: float) -> None:
    """Send recordings, make jobs, begin and end streams, break off uploads and open idle connections, over and over."""
    client = Client(address)
    until = time.monotonic() + seconds
    counts = dict.fromkeys(("recordings", "jobs", "streams", "refused", "broken off", "idle"), 0)
    failures: list[BaseException] = []
    place = urlsplit(address).hostname, urlsplit(address).port

    def enhance(number: int) -> None:
        target = recording.with_name(f"out{number}.flac")
        client.enhance(recording, target, overwrite=True, limit_db=float(counts["recordings"] % 30))
        counts["recordings"] += 1

    def work_job(number: int) -> None:
        job = client.wait(client.submit(recording).id, every_seconds=0.5)
        client.fetch(job.id, recording.with_name(f"job{number}.flac"), overwrite=True)
        client.delete(job.id)
        counts["jobs"] += 1

    def live(number: int) -> None:
        rng = np.random.default_rng(counts["streams"])
        rate, channels = int(rng.choice([16_000, 44_100, 48_000])), int(rng.integers(1, 3))
        block = rng.standard_normal((channels, rate // 50)).astype(np.float32)

        def paced() -> Iterator[NDArray[np.float32]]:
            for _ in range(int(rng.integers(10, 500))):
                time.sleep(0.02)
                yield 0.05 * block

        for _ in client.stream(paced(), rate, channels=channels, model="live"):
            pass
        counts["streams"] += 1

    def misbehave(number: int) -> None:
        with contextlib.suppress(SottovoceError):
            client.enhance(Path(__file__), recording.with_name("never.py"))
        counts["refused"] += 1
        with socket.create_connection(place, timeout=30) as sock:
            head = "POST /v1/audio/enhancements HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
            sock.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + bytes(100_000))
        counts["broken off"] += 1
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(socket.create_connection(place, timeout=30))
            time.sleep(1)
        counts["idle"] += 20

    def repeat(act: Callable[[int], None], number: int) -> None:
        try:
            while time.monotonic() < until and not failures:
                act(number)
        except BaseException as error:
            failures.append(error)

    acts = [enhance] * 2 + [work_job] + [live] * MEMORY_STREAMS + [misbehave]
    threads = [threading.Thread(target=repeat, args=(act, number)) for number, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    recording.with_name("counts.json").write_text(json.dumps(counts))


def memory_page(found: dict[str, Any]) -> list[str]:
    """Describe memory over time: a slope with its interval, from the samples of all but the first third."""
    times, sizes = np.array(found["samples"]).T
    late = times >= times[-1] / 3
    slope, (low, high) = growth(times[late] / 3600, sizes[late])
    counts = ", ".join(f"{count} {name}" for name, count in found["counts"].items())
    at = [int(np.searchsorted(times, share * times[-1])) for share in (0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)]
    return [
        f"## Memory over {found['minutes']:g} minutes",
        f"Two clients send recordings of {UPLOAD_SECONDS} s without a pause, one works with jobs, {MEMORY_STREAMS} "
        "begin and end live streams of several rates, one sends what is refused, breaks uploads off and opens idle "
        f"connections: {counts}. Proportional set size of the service and all its processes, every "
        f"{SAMPLE_SECONDS:g} s. **Floor**: a service that keeps nothing does not grow.",
        table(["minute", *(f"{times[n] / 60:.0f}" for n in at)], [["MiB", *(f"{sizes[n]:.0f}" for n in at)]]),
        f"In the last two thirds it grew by {slope:.1f} MiB per hour (95 % interval {low:.1f} to {high:.1f}, resampled "
        f"in blocks of a minute). Limit: {GROWTH_LIMIT_MIB:g} MiB per hour is not exceeded by the slope: "
        f"{verdict(slope / GROWTH_LIMIT_MIB, 1)}.",
    ]


def growth(hours: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Return the slope of a straight line, and its 95 % interval: residuals are resampled in blocks of a minute."""
    slope, offset = np.polyfit(hours, sizes, 1)
    line = slope * hours + offset
    length = int(60 / SAMPLE_SECONDS)
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(RESAMPLES):
        starts = rng.integers(0, len(hours) - length + 1, -(-len(hours) // length))
        order = (starts[:, np.newaxis] + np.arange(length)).ravel()[: len(hours)]
        slopes.append(np.polyfit(hours, line + (sizes - line)[order], 1)[0])
    low, high = np.percentile(slopes, (2.5, 97.5))
    return float(slope), (float(low), float(high))


PARTS: dict[str, tuple[Callable[[argparse.Namespace], dict[str, Any]], Callable[[dict[str, Any]], list[str]]]] = {
    "streams": (measure_streams, streams_page),
    "uploads": (measure_uploads, uploads_page),
    "idle": (measure_idle, idle_page),
    "memory": (measure_memory, memory_page),
}


def write_page(kept: dict[str, Any]) -> None:
    """Write the page of all parts that were measured."""
    paragraphs = []
    for name, (_, page) in PARTS.items():
        if name in kept:
            paragraphs += page(kept[name])
            paragraphs.append(f"Load of the machine when this part began: {kept[name]['load']:.1f} on all cores.")
    finish("service_load", "The service under load", paragraphs)


def main() -> None:
    """Measure, print and write benchmarks/results/service_load.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=STREAM_SECONDS, help="length of every stream")
    parser.add_argument(
        "--cases",
        type=int,
        nargs="+",
        choices=range(1, 1 + len(STREAM_CASES)),
        help="numbers of the rows of live streams, from 1 (default: all)",
    )
    parser.add_argument("--minutes", type=float, default=MEMORY_MINUTES, help="for how long memory is watched")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"found {', '.join(sorted(unknown))}, expected parts of {', '.join(PARTS)}")
    for name in arguments.parts or PARTS:
        load = os.getloadavg()[0]
        measured = {**PARTS[name][0](arguments), "load": load}
        # Another run may have measured another part meanwhile.
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
        KEPT.write_text(json.dumps({**kept, name: measured}) + "\n", encoding="utf-8")
    write_page(json.loads(KEPT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
