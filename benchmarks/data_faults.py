"""What damaged files and killed processes cost the data side: the files and the moments, and nothing else.

    python benchmarks/data_faults.py --photos PHOTOS [--files 10000] [--kills 50]

- Mutated images in six formats: the build ends, lists each bad one with its reason and keeps the good ones intact;
  with simplejpeg and without, the same images with the same pixels.
- A store's build and a download, each killed (SIGKILL) at random moments until it is through: the content is that of
  an undisturbed one.
- MNIST and Fashion-MNIST, where they are found: both parts, labels and pixels against what is known of them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from convae.core.errors import DataError
from convae.data import DataConfig, Split, open_split
from convae.data.images import jpeg
from convae.data.splits.split import SplitName

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF"}
BUILD = """
import sys
from convae.data import DataConfig, open_split
open_split(DataConfig(source=sys.argv[1], size=64), "all")
"""
GET = """
import sys
from pathlib import Path
from convae.data.io.download import Remote, download
download([Remote("file.bin", (sys.argv[1],), sys.argv[2], size=int(sys.argv[3]))], Path(sys.argv[4]))
"""
KNOWN: dict[tuple[str, SplitName], tuple[int, list[int], list[int]]] = {
    ("mnist", "train"): (
        1_567_298_545,
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
    ),
    ("mnist", "test"): (
        264_923_200,
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
    ),
    ("fashion-mnist", "train"): (3_431_114_169, [6000] * 10, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
    ("fashion-mnist", "test"): (573_469_082, [1000] * 10, [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
}
"""Sum of all pixels, images of each class, and the first ten labels."""


def opened(folder: Path, cache: Path, size: int = 32) -> Split:
    """The images of a folder, stored in a cache of their own."""
    os.environ["CONVAE_CACHE"] = str(cache)
    return open_split(DataConfig(source=str(folder), size=size, channels=3), "all")


def mutated(photos: Path, folder: Path, count: int) -> set[str]:
    """Writes `count` images, nine of ten of them damaged; gives the names of the sound ones."""
    draw = random.Random(0)
    crops = [Image.open(path).convert("RGB").resize((96, 64)) for path in sorted(photos.glob("*.png"))]
    contents = {}
    for suffix, name in FORMATS.items():
        for number, crop in enumerate(crops):
            file = io.BytesIO()
            crop.save(file, name)
            contents[suffix, number] = file.getvalue()
    sound = set()
    for number in range(count):
        suffix = list(FORMATS)[number % len(FORMATS)]
        content = bytearray(contents[suffix, draw.randrange(len(crops))])
        name = f"{number:05d}.{suffix}"
        if number % 10 == 0:
            sound.add(name)
        elif draw.random() < 0.3:
            del content[draw.randrange(len(content)) :]
        else:
            for _ in range(draw.choice([1, 3, 30])):
                # Headers are small, and most worth damaging.
                content[draw.randrange(min(len(content), draw.choice([64, 1024, len(content)])))] = draw.randrange(256)
        (folder / name).write_bytes(content)
    return sound


def mutations(photos: Path, work: Path, count: int) -> None:
    """Builds the store of mutated files, with the fast path and without."""
    folder = work / "mutated"
    folder.mkdir()
    sound = mutated(photos, folder, count)
    began = time.perf_counter()
    split = opened(folder, work / "with")
    took = time.perf_counter() - began
    vars(jpeg)["simplejpeg"] = None  # as where it is not installed
    slow = opened(folder, work / "without")
    kept, skipped = set(split.keys), dict(split.skipped)
    assert len(kept) + len(skipped) == count
    assert not kept & set(skipped)
    assert all(skipped.values())
    assert sound <= kept, "a sound image was lost"
    (work / "sound").mkdir()
    for name in sound:
        shutil.copy(folder / name, work / "sound")
    alone = opened(work / "sound", work / "alone")
    rows = [split.keys.index(name) for name in alone.keys]
    assert (split.images(rows) == alone.images(range(len(alone)))).all(), "a sound image was changed"
    others = kept ^ set(slow.keys)
    both = sorted(kept & set(slow.keys))
    same = split.images([split.keys.index(name) for name in both]) == slow.images([slow.keys.index(n) for n in both])
    print(f"{count:,} mutated files: {len(kept):,} read, {len(skipped):,} skipped with a reason, {took:.0f} s")
    print(f"without simplejpeg: {len(others)} images by one way only, {int((~same).any((1, 2, 3)).sum())} differ")
    for suffix in FORMATS:
        reasons = [reason for name, reason in skipped.items() if name.endswith(suffix)]
        print(f"  {suffix}: {len(reasons)} skipped, such as: {max(set(reasons), key=reasons.count)}")


def killed(command: list[str], usual: float, kills: int, draw: random.Random) -> int:
    """Runs a command, killing it at random moments; gives how often it was killed before it was through."""
    struck = 0
    while struck < kills:
        process = subprocess.Popen(command)
        try:
            process.wait(draw.uniform(0.3, 1) * usual)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            struck += 1
            continue
        assert process.returncode == 0, "a call after a kill failed"
        return struck
    assert subprocess.run(command, check=False).returncode == 0, "the call after the kills failed"
    return struck


def timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    assert subprocess.run(command, check=False).returncode == 0
    return time.perf_counter() - began


def kills_of_a_build(photos: Path, work: Path, kills: int) -> None:
    """Kills builds of stores at random moments, from the start of the process to its end, until `kills` are done."""
    folder = work / "photos"
    folder.mkdir()
    draw = random.Random(1)
    crops = [Image.open(path).convert("RGB").resize((192, 128)) for path in sorted(photos.glob("*.png"))]
    for number in range(6000):
        crops[number % len(crops)].rotate(number % 360).save(folder / f"{number:04d}.jpg")
    whole = opened(folder, work / "whole", 64)
    os.environ["CONVAE_CACHE"] = str(work / "kills")
    command = [sys.executable, "-c", BUILD, str(folder)]
    usual = timed(command)
    struck = builds = 0
    while struck < kills:
        shutil.rmtree(work / "kills", ignore_errors=True)
        struck += killed(command, usual, kills - struck, draw)
        found = opened(folder, work / "kills", 64)
        assert (found.content_hash, found.keys) == (whole.content_hash, whole.keys)
        found.images(range(len(found)))
        builds += 1
    print(f"{struck} kills in {builds} builds of 6,000 images: each store equal to an undisturbed one")


class Deaf(ThreadingHTTPServer):
    """A server that says nothing when clients go away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing."""


class Slow(BaseHTTPRequestHandler):
    """A file that comes slowly, from where it is asked for."""

    content = b""

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """Sends the rest of the file."""
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        for place in range(start, len(self.content), 1 << 16):
            self.wfile.write(self.content[place : place + (1 << 16)])
            time.sleep(0.004)


def kills_of_a_download(work: Path, kills: int) -> None:
    """Kills downloads from this machine at random moments until `kills` are done."""
    Slow.content = np.random.default_rng(0).integers(0, 256, 24 << 20, np.uint8).tobytes()
    server = Deaf(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, digest = f"http://127.0.0.1:{server.server_port}/x", hashlib.sha256(Slow.content).hexdigest()
    command = [sys.executable, "-c", GET, url, digest, str(24 << 20)]
    usual, draw = timed([*command, str(work / "undisturbed")]), random.Random(2)
    struck = files = 0
    while struck < kills:
        place = work / f"download{files}"
        struck += killed([*command, str(place)], usual, kills - struck, draw)
        assert (place / "file.bin").read_bytes() == Slow.content
        shutil.rmtree(place)
        files += 1
    server.shutdown()
    print(f"{struck} kills in {files} downloads of 24 MiB: each file equal")


def known_sets() -> None:
    """Compares MNIST and Fashion-MNIST with what is known of them."""
    for (name, part), (total, counts, first) in KNOWN.items():
        try:
            split = open_split(DataConfig(source=name, validation=0, download=False), part)
        except DataError as error:
            print(error)
            continue
        assert split.labels is not None
        assert np.bincount(split.labels).tolist() == counts
        assert split.labels[:10].tolist() == first
        assert int(split.images(range(len(split))).long().sum()) == total
        print(f"{name}, {part}: {len(split):,} labels and the sum of pixels ({total:,}) are the known ones")


def main() -> None:
    """Runs the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of large PNG photographs")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["CONVAE_CACHE"] = str(work / "known")
        known_sets()
        kills_of_a_download(work, given.kills)
        kills_of_a_build(given.photos, work, given.kills)
        mutations(given.photos, work, given.files)


if __name__ == "__main__":
    main()
