"""A scoring service at twice its capacity, beside the detector called directly.

    python -m bench service [--minutes 10] [--threads 1] [--model MODEL --images FOLDER]

Unless they are given, makes up 400 photographs (JPEG, 320x240) and trains the views `transforms` and `pixels` of the
preset `quick` on them for a moment: cost is measured, not quality. In this order, always one image in a request:

1. direct: a process that decodes, preprocesses and scores the images in batches, and one by one;
2. one client: the service, asked by one client;
3. capacity: the service, asked by as many clients as its queue holds;
4. overload: requests at twice that rate, whatever becomes of them, for --minutes.

Images a second depend on what else the machine does; images a CPU-second, of the process that scores, hardly do.

Every answer has to be the same bytes as that to the same image alone, or 429; the resident memory has to stay
within 5 % after the first tenth of the overload. Else the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anowild import api
from anowild.data import ImageSet
from anowild.device import configure_process
from anowild.presets import preset
from anowild.scoring import Detector
from bench.peers import ROOT

#: Photographs that are made up, and their width and height.
COUNT, SIZE = 400, (320, 240)
#: Images that are scored one by one.
SINGLE = 5
#: Seconds of the shorter measurements, and from one look at the memory to the next.
SECONDS, LOOK = 15.0, 2.0
#: Clients that find the capacity, and connections of the overload: more than the queue of 256 holds.
CLIENTS, CONNECTIONS = 256, 400
#: Times the capacity; share of the overload that warms up; and how far the memory may move after it.
OVERLOAD, WARM_UP, MEMORY = 2.0, 0.1, 0.05


def make_photographs(folder: Path) -> None:
    """Write photographs of soft shapes and grain."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    width, height = SIZE
    for number in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        soft = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), np.float64)
        grain = rng.normal(0, 6, (height, width, 3))
        pixels = (soft + grain).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)


def train(images: Path, model: Path) -> None:
    """Train a detector for a moment."""
    settings = (
        preset("quick").settings().replace(views=("transforms", "pixels"), transforms_kimg=0.5)
    )
    api.train(str(images), model, settings)


def percentiles(seconds: Sequence[float]) -> str:
    """Format p50, p95 and p99 in milliseconds."""
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, (50, 95, 99))
    return f"p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f} ms"


def direct(model: Path, images: Path, threads: int) -> None:
    """Measure the detector alone, and print it as JSON."""
    configure_process(threads)
    detector = Detector.load(model, "cpu")
    paths = sorted(images.iterdir())

    def score(chosen: list[Path]) -> None:
        found = ImageSet.load([str(path) for path in chosen], preprocess=detector.preprocess)
        detector.reasons(detector.score(found))

    size = detector.batch_size
    score(paths[:size])
    count, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < SECONDS:
        chosen = [paths[(count + i) % len(paths)] for i in range(size)]
        score(chosen)
        count += size
    rate, cpu_rate = count / (time.perf_counter() - begun), count / (time.process_time() - cpu)
    single = []
    for number in range(SINGLE):
        begun = time.perf_counter()
        score([paths[number % len(paths)]])
        single.append(time.perf_counter() - begun)
    print(json.dumps({"rate": rate, "cpu_rate": cpu_rate, "single": single}))


@dataclass
class Load:
    """Requests of many clients, and what became of them.

    Args:
        port: of the service.
        requests: whole requests, to be sent as they are.
        expected: the answer to each; empty where it is not known yet.
    """

    port: int
    requests: list[bytes]
    expected: list[bytes]
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(
        default_factory=list
    )  # of the requests that were answered with 200
    refusals: list[float] = field(default_factory=list)  # of those that were answered with 429
    late: float = 0.0  # most that a request was sent later than it was due

    async def run(self, clients: int, length: float, rate: float | None = None) -> float:
        """Send requests for so many seconds, at a rate or as fast as they are answered.

        Returns:
            Answers with 200 in a second.
        """
        self.begun = time.perf_counter()
        self.end, self.rate, self.sent = self.begun + length, rate, 0
        await asyncio.gather(*(self._client() for _ in range(clients)))
        return self.outcomes["200"] / (time.perf_counter() - self.begun)

    async def _client(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            number, self.sent = self.sent, self.sent + 1
            now = time.perf_counter()
            due = now if self.rate is None else self.begun + number / self.rate
            if max(due, now) >= self.end:
                break
            if due > now:
                await asyncio.sleep(due - now)
            begun = time.perf_counter()
            self.late = max(self.late, begun - due)
            which = number % len(self.requests)
            try:
                writer.write(self.requests[which])
                status, body = await _answer(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.outcomes[type(error).__name__] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                continue
            taken = time.perf_counter() - begun
            if status == 200:
                self.seconds.append(taken)
                if not self.expected[which]:
                    self.expected[which] = body
                elif self.expected[which] != body:
                    status = -200
            elif status == 429:
                self.refusals.append(taken)
            self.outcomes["other bytes" if status == -200 else str(status)] += 1
        writer.close()

    def __str__(self) -> str:
        told = f"{percentiles(self.seconds)}; answers {dict(self.outcomes)}"
        if self.refusals:
            told += f"; refusals {percentiles(self.refusals)}"
        return told


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    return int(head[9:12]), await reader.readexactly(int(length[1]))


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> float:
    """Return the resident memory of a process, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1000


async def overload(
    port: int, requests: list[bytes], expected: list[bytes], rate: float, length: float, process: int
) -> bool:  # fmt: skip
    """Ask for more than the service can do; return whether it held what it promises."""
    memory: list[tuple[float, float]] = []

    async def look() -> None:
        begun = time.perf_counter()
        while True:
            memory.append((time.perf_counter() - begun, resident(process)))
            await asyncio.sleep(LOOK)

    cpu = cpu_seconds(process)
    looking = asyncio.ensure_future(look())
    load = Load(port, requests, expected)
    done = await load.run(CONNECTIONS, length, rate)
    looking.cancel()
    print(
        f"overload: {sum(load.outcomes.values()) / length:.1f} requests/s, {done:.1f} images/s, {load}"
    )
    rate = load.outcomes["200"] / (cpu_seconds(process) - cpu)
    print(f"overload: {rate:.1f} images/CPU-s, refusals included")
    print(f"overload: requests were sent up to {load.late:.2f} s late")
    warm = [mb for at, mb in memory if at >= WARM_UP * length]
    course = [f"{warm[round(part * (len(warm) - 1) / 4)]:.0f}" for part in range(5)]
    moved = max(abs(mb / warm[0] - 1) for mb in warm)
    print(
        f"resident memory: {memory[0][1]:.0f} MB at first, {warm[0]:.0f} MB warm, then {min(warm):.0f} to "
        f"{max(warm):.0f} MB, {100 * moved:.1f} % away (by quarters: {', '.join(course)})"
    )
    return moved <= MEMORY and set(load.outcomes) <= {"200", "429"}


async def ask(port: int, images: Path, minutes: float, reference: float, process: int) -> bool:
    """Measure a service; return whether it held what it promises.

    Args:
        port: of the service.
        images: folder of JPEGs that it is asked about.
        minutes: of the overload.
        reference: images a CPU-second of the detector called directly.
        process: number of the service's process.
    """
    requests = []
    for path in sorted(images.iterdir()):
        data = path.read_bytes()
        head = (
            f"POST /score?name={path.stem} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        requests.append(head.encode() + data)
    expected = [b""] * len(requests)
    one = Load(port, requests, expected)
    done = await one.run(1, SECONDS)
    print(f"one client: {done:.1f} images/s, {one}", flush=True)
    many = Load(port, requests, expected)
    cpu = cpu_seconds(process)
    capacity = await many.run(CLIENTS, SECONDS)
    rate = many.outcomes["200"] / (cpu_seconds(process) - cpu)
    print(f"capacity: {capacity:.1f} images/s, {rate:.1f} images/CPU-s, {many}")
    print(f"service / direct: {rate / reference:.2f} of the images a CPU-second", flush=True)
    held = set(one.outcomes | many.outcomes) <= {"200", "429"}
    asked = OVERLOAD * capacity
    return await overload(port, requests, expected, asked, 60 * minutes, process) and held


def main(arguments: list[str]) -> int:
    """Measure, and print; with ``--direct``, be the process that calls the detector directly."""
    parser = argparse.ArgumentParser(
        prog="python -m bench service", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1, help="of the detector, everywhere")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path, help="folder of JPEGs")
    parser.add_argument("--direct", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.direct:
        direct(given.model, given.images, given.threads)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        images = given.images or Path(temporary) / "images"
        model = given.model or Path(temporary) / "model"
        if given.images is None:
            make_photographs(images)
        if given.model is None:
            train(images, model)
        return measure(model, images, given.threads, given.minutes)


def measure(model: Path, images: Path, threads: int, minutes: float) -> int:
    """Measure a model directly and behind a service."""
    print(f"{len(list(images.iterdir()))} images, {threads} threads, torch {torch.__version__}")
    options = ["--threads", str(threads)]
    command = [
        sys.executable,
        "-m",
        "bench.service",
        "--direct",
        "--model",
        model,
        "--images",
        images,
    ]
    told = subprocess.run([*map(str, command), *options], check=True, capture_output=True, cwd=ROOT)
    alone = json.loads(told.stdout.splitlines()[-1])
    print(
        f"direct: {alone['rate']:.1f} images/s, {alone['cpu_rate']:.1f} images/CPU-s in batches; "
        f"one by one {percentiles(alone['single'])}", flush=True,
    )  # fmt: skip
    command = [sys.executable, "-m", "anowild", "serve", model, "--port", "0"]
    with subprocess.Popen(
        [*map(str, command), *options], stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        try:
            found = re.search(r":(\d+)/score", service.stdout.readline())
            assert found, "the service does not start"
            held = asyncio.run(ask(int(found[1]), images, minutes, alone["cpu_rate"], service.pid))
        finally:
            service.terminate()
            said, _ = service.communicate()
    print(f"the service: {said.splitlines()[-1]}, exit code {service.returncode}")
    print("held" if held and service.returncode == 0 else "NOT HELD")
    return 0 if held and service.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
