"""Trainings whose recordings come from manifests and shards: divided, resumed and refused like those of folders."""

import io
import json
import logging
import shutil
import signal
import tarfile

import numpy as np
import pytest
import torch

from sottovoce import interruption
from sottovoce.archive import listing as listing_module
from sottovoce.archive.manifest import Item, Manifest, write_manifest
from sottovoce.archive.pool import ThisProcess
from sottovoce.config import TrainingSettings
from sottovoce.data.corpora.stream import group_of
from sottovoce.errors import DataError
from sottovoce.signal import audio
from sottovoce.training.module import loader
from sottovoce.training.preparation import prepare
from sottovoce.training.run import training_clips
from sottovoce.training.streaming import Division, open_listing, open_stream

from ..data.synthetic import tone, write
from .conftest import fitted, tiny

STREAM = {"stream": {"readers": 2, "recordings": 3}}


def listed(folder, place):
    items = [Item(path.relative_to(folder).as_posix(), path.as_uri()) for path in audio.find_audio(folder)]
    write_manifest(items, place, part_items=3)
    return place


def items_of(place):
    manifest = Manifest.open(place)
    return [item for part in manifest.parts for item in manifest.read(part)]


@pytest.fixture(scope="module")
def manifests(folders, tmp_path_factory):
    """Manifests of clean speech and of noisy recordings."""
    speech, made = folders
    place = tmp_path_factory.mktemp("manifests")
    return listed(speech, place / "speech"), listed(made / "noisy", place / "noisy")


def test_a_stopped_run_on_manifests_ends_like_an_unbroken_one(manifests, tmp_path):
    """In the middle of an epoch, and whatever the number of workers."""
    settings = tiny(check_every=40, data=STREAM)
    fitted(*manifests, tmp_path / "whole", settings)
    steps = []

    def stop(stage, step, *_):
        steps.append((stage, step))
        if stage.endswith("stage") and step == 3:
            signal.raise_signal(signal.SIGTERM)

    broken = tmp_path / "broken"
    for _ in range(2):
        with pytest.raises(interruption.Interruption), interruption.raised():
            fitted(*manifests, broken, settings, stop)
    fitted(*manifests, broken, settings, stop)
    assert steps == [(stage, step) for stage in ("speech stage", "joint stage") for step in range(1, 7)]
    for name in ("checkpoint.safetensors", "losses.csv", "health.csv"):
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(manifests, tmp_path, workers):
    settings = tiny(data=STREAM)
    clips = training_clips(prepare(*manifests, tmp_path, settings), settings)
    alone, helped = (list(loader(clips, "joint", range(3, 8), count)) for count in (0, workers))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_folder_and_a_manifest_go_together(folders, manifests, tmp_path, caplog):
    speech, made = folders
    for number, places in enumerate([(speech, manifests[1]), (manifests[0], made / "noisy")]):
        with caplog.at_level(logging.WARNING, "sottovoce"):
            data = prepare(*places, tmp_path / str(number), tiny(data=STREAM))
        batch = training_clips(data, tiny(data=STREAM)).batch(5, "joint learning")
        assert all(part.any() for part in batch[:-1])
        assert bool(data.speech_stream) != bool(data.mixture_stream)
    assert caplog.messages == []


def open_speech(items, tmp_path, **data):
    place = tmp_path / "listing"
    shutil.rmtree(place, ignore_errors=True)
    settings = TrainingSettings.model_validate({"data": {**STREAM, **data}})
    return open_stream("speech", write_manifest(items, place, part_items=4), tmp_path, settings)


@pytest.mark.parametrize(("people", "share"), [(2, 0.01), (2, 0.99), (3, 0.3), (40, 0.3)])
def test_no_speaker_is_on_both_sides_and_none_is_empty(tmp_path, people, share):
    path = tmp_path / "voice.wav"
    write(path, tone(0.6, 150, np.random.default_rng(0)))
    items = [Item(f"{person}/{number}.wav", path.as_uri()) for person in range(people) for number in range(2)]
    streamed = open_speech(items, tmp_path, held_back_share=share)
    assert streamed.is_divided
    held_back = set(streamed.held_back.recordings.groups)
    trained = {group for number in range(4 * len(items)) for group in streamed.stream.window(number).recordings.groups}
    assert held_back
    assert trained
    assert not held_back & trained
    if people == 40:
        takes = streamed.stream._takes
        assert 4 <= sum(not takes(group_of(item.id)) for item in items) / 2 <= 24
        assert len(streamed.held_back.recordings.recordings) <= 16


def test_one_speaker_alone_is_on_both_sides(tmp_path):
    path = tmp_path / "voice.wav"
    write(path, tone(0.6, 150, np.random.default_rng(0)))
    streamed = open_speech([Item(f"anna/{number}.wav", path.as_uri()) for number in range(3)], tmp_path)
    assert not streamed.is_divided
    assert streamed.held_back.recordings.groups == streamed.stream.window(5).recordings.groups == ("anna",)


def test_places_of_speakers_follow_from_seed_and_name():
    one, other = (Division((seed, 110), 0.5) for seed in (1, 2))
    places = [one.place(str(name)) for name in range(500)]
    assert all(0 <= place <= 1 for place in places)
    assert 0.4 < np.mean([one.takes(str(name)) for name in range(500)]) < 0.6
    assert places != [other.place(str(name)) for name in range(500)]
    assert places == [Division((1, 110), 0.1).place(str(name)) for name in range(500)]


def test_shards_in_a_folder_are_listed_in_the_run(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(listing_module, "Workers", ThisProcess)
    speech, made = folders
    shards = tmp_path / "shards"
    shards.mkdir()
    with tarfile.open(shards / "000.tar", "w") as tar:
        for path in audio.find_audio(speech):
            member = tarfile.TarInfo(path.relative_to(speech).as_posix())
            member.size = path.stat().st_size
            tar.addfile(member, io.BytesIO(path.read_bytes()))
    out = tmp_path / "run"
    for place in (shards, shards / "000.tar"):
        data = prepare(place, made / "noisy", out, tiny(data=STREAM))
        assert training_clips(data, tiny(data=STREAM)).batch(0, "joint").simulated_mixtures.any()
    assert Manifest.open(out / "manifests" / "speech").items == len(audio.find_audio(speech))
    assert {recording.group for recording in data.held_back_speech.recordings} < {"anna", "bert", "carl"}
    shutil.copytree(shards, tmp_path / "others")
    with pytest.raises(DataError, match=r"that are not those in .*others"):
        prepare(tmp_path / "others", made / "noisy", out, tiny(data=STREAM))


def test_where_nothing_streams_a_folder_is_its_recordings(folders, manifests, tmp_path):
    speech, made = folders
    both = shutil.copytree(speech, tmp_path / "both")
    shutil.copytree(manifests[0], both, dirs_exist_ok=True)
    data = prepare(both, made / "noisy", tmp_path / "run", tiny(), may_stream=False)
    assert not data.is_streamed
    assert data.speech.recordings
    with pytest.raises(DataError, match="found no recording in the folder"):
        prepare(manifests[0], made / "noisy", tmp_path / "other", tiny(), may_stream=False)


def test_a_folder_of_recordings_is_none(folders, tmp_path):
    assert open_listing(folders[0], tmp_path / "manifest") is None
    assert open_listing(tmp_path / "missing", tmp_path / "manifest") is None
    assert not (tmp_path / "manifest").exists()


def test_a_run_on_another_manifest_is_refused(folders, manifests, tmp_path):
    speech, made = folders
    settings = tiny(data=STREAM)
    prepare(*manifests, tmp_path / "run", settings)
    noted = json.loads((tmp_path / "run" / "speech.json").read_text())
    assert noted["items"] == len(audio.find_audio(speech))
    moved = shutil.copytree(manifests[0], tmp_path / "moved")
    prepare(moved, manifests[1], tmp_path / "run", settings)
    shutil.rmtree(moved)
    write_manifest(
        [item for part in Manifest.open(manifests[0]).parts[1:] for item in Manifest.open(manifests[0]).read(part)],
        moved,
    )
    with pytest.raises(DataError, match="found a run on other recordings in"):
        prepare(moved, manifests[1], tmp_path / "run", settings)
    with pytest.raises(DataError, match="found a run on other recordings in"):
        prepare(speech, manifests[1], tmp_path / "run", settings)
    prepare(speech, made / "noisy", tmp_path / "folders", settings)
    with pytest.raises(DataError, match="found a run on other recordings in"):
        prepare(manifests[0], made / "noisy", tmp_path / "folders", settings)


def test_recordings_on_both_sides_are_reported(folders, manifests, tmp_path, caplog):
    speech, _ = folders
    write_manifest([item for place in manifests for item in items_of(place)], tmp_path / "both")
    count = len(audio.find_audio(speech))
    for number, place in enumerate((manifests[0], speech)):
        with caplog.at_level(logging.WARNING, "sottovoce"):
            prepare(place, tmp_path / "both", tmp_path / str(number), tiny(data=STREAM))
        assert f"found {count} recordings both in {place} and in {tmp_path / 'both'}" in caplog.text
        caplog.clear()


def test_a_manifest_of_what_cannot_be_used_is_one_sentence(manifests, tmp_path):
    items = [Item(f"{number}/0.wav", (tmp_path / f"{number}.wav").as_uri()) for number in range(3)]
    write_manifest(items, tmp_path / "gone")
    with pytest.raises(DataError, match=r"found nothing that can be used in .*gone: .*skipped.jsonl says why"):
        prepare(tmp_path / "gone", manifests[1], tmp_path / "run", tiny(data=STREAM))
    assert "expected a sound file: check the name" in (tmp_path / "run" / "skipped.jsonl").read_text()
    for part in (tmp_path / "gone").glob("part-*"):
        part.write_text("")
    with pytest.raises(DataError, match=r"found no part of .*gone that can be read"):
        prepare(tmp_path / "gone", manifests[1], tmp_path / "other", tiny(data=STREAM))
