"""Recordings of a manifest: each once an epoch, a few in memory, the same ones for the number of a batch."""

import io
import tarfile

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive import listing as listing_module
from sottovoce.archive.listing import make_manifest
from sottovoce.archive.manifest import Item, write_manifest
from sottovoce.archive.pool import ThisProcess
from sottovoce.data.corpora import stream as stream_module
from sottovoce.data.corpora.skipped import Skipped
from sottovoce.data.corpora.stream import RecordingStream, group_of
from sottovoce.data.sampling import StreamedClips
from sottovoce.errors import DataError, StorageError
from sottovoce.signal import audio

from ..drawn import SETTINGS, DataSettings
from ..synthetic import RATE, tone, write

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve recordings, each of a pitch of its own, with two seconds of noise at the end."""
    folder, rng = tmp_path_factory.mktemp("listed"), np.random.default_rng(1)
    for number in range(COUNT):
        waveform = np.pad(tone(2.0, 100 + 10 * number, rng), (0, 2 * RATE))
        waveform += 0.003 * rng.standard_normal(waveform.size).astype(np.float32)
        write(folder / f"speaker {number % 5}" / f"{number}.wav", waveform)
    return folder


def items_in(folder):
    return [Item(path.relative_to(folder).as_posix(), path.as_uri()) for path in audio.find_audio(folder)]


@pytest.fixture
def listing(folder, tmp_path):
    return write_manifest(items_in(folder), tmp_path / "manifest", part_items=5)


def streamed(listing, tmp_path, *, readers=2, recordings=3, seed=1, takes=lambda _: True, has_noise=False):
    return RecordingStream(
        listing,
        seed=(seed, 110),
        readers=readers,
        recordings=recordings,
        takes=takes,
        has_noise=has_noise,
        skipped=Skipped(tmp_path / "skipped.jsonl"),
    )


def names(window):
    return [recording.path.name for recording in window.recordings.recordings]


def visited(stream, batches):
    """Names in the order in which they enter a window."""
    return [names(stream.window(batch))[-1] for batch in batches]


@pytest.mark.parametrize("readers", [1, 2, 5])
def test_each_recording_is_visited_once_an_epoch(listing, tmp_path, readers):
    stream = streamed(listing, tmp_path, readers=readers, recordings=1)
    epochs = [visited(stream, range(COUNT * epoch, COUNT * (epoch + 1))) for epoch in range(3)]
    assert all(sorted(epoch) == sorted(f"{number}.wav" for number in range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs == [
        visited(streamed(listing, tmp_path, recordings=1), range(start, start + COUNT)) for start in (0, 12, 24)
    ]
    assert epochs[0] != visited(streamed(listing, tmp_path, recordings=1, seed=2), range(COUNT))


def test_parts_are_shuffled_together_and_among_each_other(listing, tmp_path, monkeypatch):
    monkeypatch.setattr(stream_module, "_PARTS_TOGETHER", 2)
    stream = streamed(listing, tmp_path, readers=1, recordings=1)
    part_of = {
        f"{number}.wav": place // 5
        for place, number in enumerate(
            int(i.id.split("/")[1][:-4]) for part in listing.parts for i in listing.read(part)
        )
    }
    orders = [
        [part_of[name] for name in visited(stream, range(COUNT * epoch, COUNT * (epoch + 1)))] for epoch in range(6)
    ]
    assert len({order[-1] for order in orders}) > 1  # which parts come last
    assert any(order[:3] != sorted(order[:3]) for order in orders)


def test_a_window_depends_on_the_number_of_the_batch_alone(listing, tmp_path):
    """So a training goes on in the middle of an epoch, and workers need not know of each other."""
    stream = streamed(listing, tmp_path, has_noise=True)
    windows = [stream.window(number) for number in range(14)]
    for number in (13, 5, 0):
        again = streamed(listing, tmp_path, has_noise=True).window(number)
        assert names(again) == names(windows[number])
        for one, other in zip(again.recordings.recordings, windows[number].recordings.recordings, strict=True):
            assert np.array_equal(one.samples, other.samples)
        assert again.stretches == windows[number].stretches
    assert any(window.stretches for window in windows)


def test_workers_that_divide_the_readers_share_the_recordings(listing, tmp_path, monkeypatch):
    opened = []
    read = stream_module.read_excerpt
    monkeypatch.setattr(stream_module, "read_excerpt", lambda item, *rest: opened.append(item.id) or read(item, *rest))
    for worker in range(2):
        stream = streamed(listing, tmp_path, readers=4, recordings=1)
        for number in range(worker, COUNT, 2):
            stream.window(number)
    assert sorted(opened) == sorted(item.id for part in listing.parts for item in listing.read(part))


def test_memory_is_bounded(listing, tmp_path, monkeypatch):
    monkeypatch.setattr(stream_module, "MAX_SAMPLES", RATE)
    read, asked = audio.read, []
    monkeypatch.setattr(
        stream_module.audio,
        "read",
        lambda *place, frames, **rest: asked.append(frames) or read(*place, frames=frames, **rest),
    )
    stream = streamed(listing, tmp_path, readers=2, recordings=3)
    for number in range(40):
        window = stream.window(number)
        assert all(recording.samples.nbytes <= 4 * RATE for recording in window.recordings.recordings)
        assert sum(len(visits) for visits in stream._windows.values()) <= 2 * 3
    assert len(stream._groups) <= 2
    assert set(asked) == {RATE}  # of a recording of ten hours no more is read, from a random place


def test_an_excerpt_reads_like_a_recording(listing, tmp_path):
    (excerpt, *_) = streamed(listing, tmp_path).window(0).recordings.recordings
    whole, rate = excerpt.read()
    assert rate == excerpt.sample_rate
    assert whole.shape == (1, excerpt.frames)
    assert np.array_equal(excerpt.read(100, 50)[0], whole[:, 100:150])
    assert np.array_equal(excerpt.read(100)[0], whole[:, 100:])


def damaged(folder):
    """Recordings of which each has something wrong, and what is said of it."""
    good = audio.find_audio(folder)[0]
    nothing, click, silent, cut, text = (
        folder / f"bad/{name}.wav" for name in ("nothing", "click", "silent", "cut", "text")
    )
    write(click, np.ones(10, np.float32))
    write(silent, np.zeros(RATE, np.float32))
    sf.write(nothing, np.zeros(0), RATE)
    cut.write_bytes(good.read_bytes()[:3000])
    text.write_bytes(b"no sound")
    return {
        "nothing": "no samples",
        "click": "lasts 0.00 s",
        "silent": "is silent from",
        "cut": "cut",
        "text": "not a sound file",
    }


def test_what_cannot_be_used_is_skipped_counted_and_named(folder, tmp_path):
    bad = tmp_path / "bad"
    write(bad / "good" / "0.wav", tone(1.0, 150, np.random.default_rng(0)))
    sentences = damaged(bad)
    missing = Item("missing.wav", (bad / "missing.wav").as_uri())
    unread = Item("000.tar/?", f"{(bad / '000.tar').as_uri()}#unread=1")
    listing = write_manifest([*items_in(bad), missing, unread], tmp_path / "manifest")
    stream = streamed(listing, tmp_path, readers=1, recordings=listing.items)
    for number in range(2 * listing.items):
        assert set(names(stream.window(number))) == {"0.wav"}
    found = {name: reason for (name, _), reason in Skipped(tmp_path / "skipped.jsonl").read().items()}
    assert found.keys() == {*(f"bad/{name}.wav" for name in sentences), "missing.wav", "000.tar/?"}
    assert all(sentence in found[f"bad/{name}.wav"] for name, sentence in sentences.items())
    assert all("\n" not in reason for reason in found.values())
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == len(found)


def test_a_part_that_is_edited_during_a_run_is_left_out(listing, tmp_path):
    before = streamed(listing, tmp_path, recordings=1)
    order = visited(before, range(COUNT))
    part = tmp_path / "manifest" / "part-000001.jsonl"
    lost = {item.id.split("/")[1] for item in listing.read(listing.parts[1])}
    part.write_text(part.read_text().replace("speaker", "singer"))
    after = streamed(listing, tmp_path, readers=1, recordings=COUNT)
    assert names(after.window(0)) == [name for name in order if name not in lost]
    ((name, _),) = after._skipped.read()
    assert name == "part-000001.jsonl"


def test_where_nothing_of_a_window_can_be_used_the_next_stands_in(listing, tmp_path):
    stream = streamed(listing, tmp_path, recordings=1, takes=lambda group: group == "speaker 3")
    assert all(len(names(stream.window(number))) == 1 for number in range(2 * COUNT))
    with pytest.raises(DataError, match="found nothing that can be used in"):
        streamed(listing, tmp_path, takes=lambda _: False).window(0)


def test_a_full_disk_is_no_fault_of_a_recording(listing, tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("no room")

    monkeypatch.setattr(stream_module, "read_excerpt", full)
    with pytest.raises(StorageError):
        streamed(listing, tmp_path).window(0)


def test_a_shard_gives_what_its_files_give(folder, tmp_path, monkeypatch):
    """Whatever their names are: nothing is written by them."""
    monkeypatch.setattr(listing_module, "Workers", ThisProcess)
    files = items_in(folder)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for item in files:
            member = tarfile.TarInfo(f"../../{item.id}")
            content = item.path.read_bytes()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    packed = make_manifest([tmp_path / "all.tar"], tmp_path / "packed", hashes=False)
    plain = write_manifest(files, tmp_path / "plain")
    for number in range(5):
        one, other = (streamed(each, tmp_path).window(number).recordings.recordings for each in (packed, plain))
        assert [recording.group for recording in one] == [recording.group for recording in other]
        assert all(np.array_equal(a.samples, b.samples) for a, b in zip(one, other, strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"all.tar", "packed", "plain"}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("anna/reading.wav", "anna"),
        ("anna/2/reading.wav", "anna"),
        ("reading.wav", "reading"),
        ("000.tar/reading.wav", "reading"),
        ("deep/000.tar/anna/reading.wav", "anna"),
        ("train.parquet/000017-reading.flac", "000017-reading"),
        ("../../anna/reading.wav", "anna"),
        ("..", ".."),
    ],
)
def test_groups_are_the_folders_within_a_shard(name, group):
    assert group_of(name) == group


def test_recordings_of_equal_names_are_all_visited(folder, tmp_path):
    """Those are of one speaker, so that none of them is held back while the other is not."""
    first, second, *_ = items_in(folder)
    listing = write_manifest([first, Item(first.id, second.uri), first], tmp_path / "manifest")
    stream = streamed(listing, tmp_path, readers=1, recordings=3)
    uris = sorted(names(stream.window(0)))
    assert uris == sorted([first.path.name, first.path.name, second.path.name])


def test_batches_of_a_stream_are_functions_of_their_number(listing, folder, tmp_path):
    def clips():
        return StreamedClips(
            streamed(listing, tmp_path),
            streamed(listing, tmp_path, has_noise=True, seed=2),
            rooms=(),
            settings=DataSettings(**SETTINGS),
            sample_rate=RATE,
            seed=1,
        )

    one = clips()
    batches = [one.batch(number, "joint learning") for number in range(4)]
    again = clips().batch(3, "joint learning")
    assert all(np.array_equal(a, b) for a, b in zip(again, batches[3], strict=True))
    assert not np.array_equal(batches[3].speech, batches[2].speech)
    assert not one.batch(0, "speech").mixtures.size
