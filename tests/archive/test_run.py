"""Archives: every recording becomes a row, nothing stops the others, and a run goes on wherever it was stopped."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive import work
from sottovoce.archive.listing import make_manifest
from sottovoce.archive.manifest import Item, write_manifest
from sottovoce.archive.pool import ThisProcess
from sottovoce.archive.results import Run
from sottovoce.archive.run import enhance_archive
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.workers import WorkerDiedError
from sottovoce.errors import ConfigError, DataError, MissingExtraError, StorageError
from sottovoce.signal.audio import probe, read


def rows(summary):
    """The rows of all tables of a run, by the name of the recording."""
    tables = sorted((Path(summary.place) / "results").iterdir())
    found = [json.loads(line) for path in tables for line in path.read_text().splitlines()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def files(folder):
    """All files of a folder with their content and time of change."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def manifest(tmp_path, recordings, here):
    return make_manifest([recordings], tmp_path / "manifest", part_items=2)


def test_every_recording_has_its_enhanced_version_and_its_row(tmp_path, manifest, recordings, identity):
    seen = []
    summary = enhance_archive(
        manifest,
        tmp_path / "out",
        identity,
        jobs=2,
        on_progress=lambda _, done, total, note="": seen.append((done, total)),
    )
    assert (summary.enhanced, summary.failed, summary.finished_parts, summary.kept_parts) == (4, 0, 2, 0)
    assert summary.seconds == pytest.approx(0.4)
    assert seen[-1] == pytest.approx((0.4, 0.4))
    found = rows(summary)
    assert list(found) == ["a/b/d.wav", "a/c.flac", "a.wav", "b.wav"]
    for name, row in found.items():
        before, after = probe(recordings / name), probe(Path(summary.place) / row["output"])
        assert (after.format, after.subtype, after.frames) == (before.format, before.subtype, before.frames)
        assert row["status"] == "enhanced"
        assert row["seconds"] == pytest.approx(0.1)
        assert row["input_db"] == pytest.approx(-23.0, abs=0.1)
        assert row["output_db"] == pytest.approx(row["input_db"], abs=0.3)
        assert (row["clipped"], row["error"], row["attempts"]) == (0, None, 1)
        assert 0.8 < row["speech"] <= 1
        assert row["work_seconds"] > 0
    assert len(list((Path(summary.place) / "audio").rglob("*.*"))) == 4


def test_levels_and_clipping_are_those_of_the_recording(tmp_path, save, identity, here):
    save(tmp_path / "in" / "loud.wav", peak=1.5, subtype="PCM_16")
    sf.write(tmp_path / "in" / "silent.wav", np.zeros(1600), 16000)
    manifest = make_manifest([tmp_path / "in"], tmp_path / "manifest")
    found = rows(enhance_archive(manifest, tmp_path / "out", identity))
    samples = read(tmp_path / "in" / "loud.wav")[0]
    assert found["loud.wav"]["clipped"] == pytest.approx(np.mean(np.abs(samples) > 0.99), abs=1e-6)
    assert found["loud.wav"]["clipped"] > 0.4
    assert (found["silent.wav"]["input_db"], found["silent.wav"]["speech"]) == (-100, 0)


def test_dnsmos_rates_the_enhanced_versions_if_asked(tmp_path, recordings, identity, here):
    pytest.importorskip("speechmos")
    sf.write(recordings / "b.wav", np.zeros(1600), 16000)
    manifest = make_manifest([recordings / "a.wav", recordings / "b.wav"], tmp_path / "manifest")
    ratings = [
        {name: value for name, value in row.items() if name.startswith("dnsmos_")}
        for row in rows(enhance_archive(manifest, tmp_path / "out", identity, dnsmos=True)).values()
    ]
    assert all(1 <= value <= 5 for value in ratings[0].values())
    assert ratings[1] == dict.fromkeys(["dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak"])


def test_without_dnsmos_the_extra_is_named_before_work(tmp_path, manifest, identity, monkeypatch):
    monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"DNSMOS needs the package 'speechmos'"):
        enhance_archive(manifest, tmp_path / "out", identity, dnsmos=True)
    assert not (tmp_path / "out").exists()


def test_what_was_finished_is_not_touched_again(tmp_path, manifest, identity):
    first = enhance_archive(manifest, tmp_path / "out", identity)
    before = files(tmp_path / "out")
    second = enhance_archive(manifest, tmp_path / "out", identity)
    assert (second.enhanced, second.finished_parts, second.kept_parts) == (0, 0, 2)
    assert second.place == first.place
    assert files(tmp_path / "out") == before


def test_a_part_without_a_table_is_gone_through_and_its_files_are_kept(tmp_path, manifest, identity):
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    expected = {name: {**row, "work_seconds": None} for name, row in rows(summary).items()}
    before = files(Path(summary.place) / "audio")
    table = sorted((Path(summary.place) / "results").iterdir())[0]
    table.unlink()
    lost = Path(summary.place) / expected["a/c.flac"]["output"]
    lost.unlink()
    again = enhance_archive(manifest, tmp_path / "out", identity)
    assert (again.enhanced, again.finished_parts, again.kept_parts) == (2, 1, 1)
    assert {name: {**row, "work_seconds": None} for name, row in rows(again).items()} == expected
    after = files(Path(summary.place) / "audio")
    assert {name: content for name, (content, _) in after.items()} == {n: content for n, (content, _) in before.items()}
    written = {name for name in after if after[name][1] != before[name][1]}
    assert written == {lost.relative_to(Path(summary.place) / "audio").as_posix()}


def test_a_damaged_enhanced_version_is_made_again(tmp_path, manifest, identity):
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    output = Path(summary.place) / rows(summary)["b.wav"]["output"]
    whole = output.read_bytes()
    output.write_bytes(whole[:100])
    for table in (Path(summary.place) / "results").iterdir():
        table.unlink()
    enhance_archive(manifest, tmp_path / "out", identity)
    assert output.read_bytes() == whole


def test_other_options_have_another_folder(tmp_path, manifest, identity):
    first, second = (
        enhance_archive(manifest, tmp_path / "out", identity, options)
        for options in (EnhanceOptions(), EnhanceOptions(mix=0.5))
    )
    assert first.place != second.place
    assert second.enhanced == 4
    assert Path(first.place).name.startswith("identity-")
    assert json.loads((Path(second.place) / "run.json").read_text())["options"]["mix"] == 0.5


def test_shards_share_the_parts(tmp_path, recordings, identity, here):
    manifest = make_manifest([recordings], tmp_path / "manifest", part_items=1)
    whole = enhance_archive(manifest, tmp_path / "whole", identity)
    summaries = [enhance_archive(manifest, tmp_path / "out", identity, shard=(number, 3)) for number in (3, 1, 2)]
    assert [summary.enhanced for summary in summaries] == [1, 2, 1]
    for folder in ("audio", "results"):
        names = [sorted(p.name for p in (Path(s.place) / folder).rglob("*.*")) for s in (whole, summaries[0])]
        assert names[0] == names[1]


def test_failures_are_rows_and_the_others_go_on(tmp_path, recordings, identity, here, caplog):
    (recordings / "b.wav").write_text("no sound")
    sf.write(recordings / "zero.wav", np.zeros(0), 16000)
    manifest = make_manifest([recordings], tmp_path / "manifest")
    (recordings / "a.wav").unlink()
    with (recordings / "a" / "c.flac").open("ab") as file:
        file.write(b"more")
    sf.write(recordings / "a" / "b" / "d.wav", 0.2 * np.ones(1600), 16000, subtype="FLOAT")
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    assert (summary.enhanced, summary.failed, summary.finished_parts) == (0, 5, 1)
    found = rows(summary)
    assert {name: row["error"] for name, row in found.items()} == {
        "a/b/d.wav": "Changed",
        "a/c.flac": "Changed",
        "a.wav": "Audio",
        "b.wav": "UnknownFormat",
        "zero.wav": "Audio",
    }
    assert "has another SHA-256 than when it was listed" in found["a/b/d.wav"]["message"]
    assert "bytes, and had" in found["a/c.flac"]["message"]
    assert "found nothing at" in found["a.wav"]["message"]
    assert "holds no samples" in found["zero.wav"]["message"]
    assert {row["attempts"] for row in found.values()} == {1}
    assert list((Path(summary.place) / "audio").rglob("*.*")) == []


def test_what_failed_is_tried_again_when_asked_for(tmp_path, recordings, identity, here):
    content = (recordings / "b.wav").read_bytes()
    manifest = make_manifest([recordings], tmp_path / "manifest", part_items=2)
    (recordings / "b.wav").unlink()
    assert enhance_archive(manifest, tmp_path / "out", identity).failed == 1
    (recordings / "b.wav").write_bytes(content)
    assert enhance_archive(manifest, tmp_path / "out", identity).finished_parts == 0
    before = files(tmp_path / "out")
    again = enhance_archive(manifest, tmp_path / "out", identity, retry_failed=True)
    assert (again.enhanced, again.failed, again.finished_parts, again.kept_parts) == (2, 0, 1, 1)
    after = files(tmp_path / "out")
    assert rows(again)["b.wav"]["status"] == "enhanced"
    table = next(name for name in before if "part-000001" in name)
    assert {name for name in before if before[name] != after[name]} == {table}
    assert len(after) == len(before) + 1


def test_a_failure_that_passes_is_tried_again(tmp_path, manifest, identity, monkeypatch):
    tried = []

    def failing(enhancer, recording, target, *arguments, **keywords):
        tried.append(recording.path.name)
        if recording.path.name == "b.wav" and tried.count("b.wav") < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        if recording.path.name == "d.wav":
            raise OSError(errno.EIO, "Input/output error")
        return enhance_file(enhancer, recording, target, *arguments, **keywords)

    enhance_file = work.enhance_file
    monkeypatch.setattr(work, "enhance_file", failing)
    summary = enhance_archive(manifest, tmp_path / "out", identity, attempts=3, pause_seconds=0)
    found = rows(summary)
    assert (found["b.wav"]["status"], found["b.wav"]["attempts"]) == ("enhanced", 3)
    assert (found["a/b/d.wav"]["status"], found["a/b/d.wav"]["attempts"]) == ("failed", 3)
    assert found["a/b/d.wav"]["error"] == "OS"
    assert "Input/output error" in found["a/b/d.wav"]["message"]
    assert tried.count("a.wav") == 1


def test_a_full_disk_stops_the_run_and_no_recording_is_blamed(tmp_path, manifest, identity, monkeypatch):
    def full(*arguments, **keywords):
        raise StorageError("cannot write: the disk is full")

    enhance_file = work.enhance_file
    monkeypatch.setattr(work, "enhance_file", full)
    monkeypatch.setattr(work, "_is_room", lambda task, item: False)
    with pytest.raises(StorageError, match="the disk is full"):
        enhance_archive(manifest, tmp_path / "out", identity, pause_seconds=0)
    (folder,) = (tmp_path / "out").iterdir()
    assert list((folder / "results").iterdir()) == []
    monkeypatch.setattr(work, "enhance_file", enhance_file)
    assert enhance_archive(manifest, tmp_path / "out", identity).enhanced == 4


def test_a_file_that_the_disk_does_not_take_alone_is_a_row(tmp_path, manifest, identity, monkeypatch):
    def too_large(enhancer, recording, target, *arguments, **keywords):
        if recording.path.name == "b.wav":
            raise StorageError("cannot write: the file is too large")
        return enhance_file(enhancer, recording, target, *arguments, **keywords)

    enhance_file = work.enhance_file
    monkeypatch.setattr(work, "enhance_file", too_large)
    summary = enhance_archive(manifest, tmp_path / "out", identity, pause_seconds=0)
    assert (summary.enhanced, summary.failed) == (3, 1)
    assert rows(summary)["b.wav"]["error"] == "Storage"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(tmp_path, manifest, identity):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="cannot make the output folder"):
        enhance_archive(manifest, tmp_path / "out", identity)


def test_a_file_in_the_place_of_the_output(tmp_path, manifest, identity):
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="cannot make the output folder"):
        enhance_archive(manifest, tmp_path / "out", identity)


def test_a_part_that_is_cut_or_edited_is_said_and_the_others_are_done(tmp_path, manifest, identity, caplog):
    path = manifest.store.path / manifest.parts[0].name
    path.write_text(path.read_text().replace("d.wav", "e.wav"))
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    assert (summary.enhanced, summary.finished_parts) == (2, 1)
    (sentence,) = summary.unfinished
    assert "part-000000.jsonl is not what the index says" in sentence
    assert caplog.messages == [sentence]


def test_a_manifest_that_is_edited_during_a_run(tmp_path, recordings, identity, here):
    """The part that was edited is left and said, and a new manifest of the same recordings does the rest."""
    manifest = make_manifest([recordings], tmp_path / "manifest", part_items=1)

    def edit(task, done, total, note=""):
        path = manifest.store.path / "part-000003.jsonl"
        path.write_text(path.read_text().replace("b.wav", "c.wav"))

    summary = enhance_archive(manifest, tmp_path / "out", identity, on_progress=edit)
    assert (summary.enhanced, len(summary.unfinished)) == (3, 1)
    again = make_manifest([recordings], tmp_path / "again", part_items=1)
    enhance_archive(again, tmp_path / "out", identity)
    assert {row["status"] for row in rows(summary).values()} == {"enhanced"}
    assert len(rows(summary)) == 4


def test_other_versions_are_not_mixed_into_a_run(tmp_path, manifest, identity):
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    path = Path(summary.place) / "run.json"
    content = path.read_text()
    path.write_text(content.replace('"sottovoce": "', '"sottovoce": "9.'))
    with pytest.raises(DataError, match=r"was begun with sottovoce 9\..*, found .*: use the same version"):
        enhance_archive(manifest, tmp_path / "out", identity)
    path.write_text(content[:50])
    with pytest.raises(DataError, match="is cut or was altered"):
        enhance_archive(manifest, tmp_path / "out", identity)


def test_names_that_lead_elsewhere_and_names_that_are_there_twice(tmp_path, save, identity, here, caplog):
    uris = [save(tmp_path / name / "a.wav").as_uri() for name in ("one", "two")]
    items = [
        Item("../../evil.wav", uris[0]),
        Item("a.wav", uris[0]),
        Item("a.wav", uris[1]),
        Item("b", "memory://b/c.wav"),
    ]
    manifest = write_manifest(items, tmp_path / "manifest")
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    assert (summary.enhanced, summary.failed) == (3, 1)
    outputs = [path.resolve() for path in tmp_path.rglob("*.wav") if path.parent.name not in ("one", "two")]
    assert len(outputs) == 3
    assert all(path.is_relative_to(Path(summary.place) / "audio") for path in outputs)
    assert any("has 2 recordings named 'a.wav'" in message for message in caplog.messages)


def test_one_item_twice_is_one_file_and_two_rows(tmp_path, save, identity, here):
    item = Item("a.wav", save(tmp_path / "a.wav").as_uri())
    summary = enhance_archive(write_manifest([item, item], tmp_path / "manifest"), tmp_path / "out", identity, jobs=2)
    assert summary.enhanced == 2
    assert len(list((Path(summary.place) / "audio").iterdir())) == 1


def test_a_process_that_dies_takes_one_recording(tmp_path, manifest, identity, monkeypatch):
    class Dying(ThisProcess):
        def call(self, function, items, task, *, advance):
            if any(item.id == "a/c.flac" for item in items):
                advance(0.05)
                raise WorkerDiedError("signal 9, Killed")
            return super().call(function, items, task, advance=advance)

    monkeypatch.setattr("sottovoce.archive.run.Workers", Dying)
    seen = []
    summary = enhance_archive(
        manifest, tmp_path / "out", identity, on_progress=lambda _, done, total, note="": seen.append(done)
    )
    row = rows(summary)["a/c.flac"]
    assert (summary.enhanced, summary.failed) == (3, 1)
    assert (row["error"], row["attempts"]) == ("WorkerDied", 3)
    assert "crashed (signal 9, Killed); it may be damaged" in row["message"]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"jobs": 0}, "0 jobs"),
        ({"attempts": 0}, "0 attempts"),
        ({"shard": (0, 3)}, r"found the shard 0/3, expected 1/3 to 3/3"),
        ({"shard": (4, 3)}, r"found the shard 4/3"),
        ({"options": EnhanceOptions(room="dry")}, "room"),
    ],
)
def test_what_makes_no_sense_is_refused_before_work(tmp_path, manifest, identity, keywords, words):
    with pytest.raises(ConfigError, match=words):
        enhance_archive(manifest, tmp_path / "out", identity, **keywords)
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_depend_on_flags_of_the_command(tmp_path, identity):
    from sottovoce.cli.arguments import EnhanceFlags
    from sottovoce.signal.output import OutputOptions

    folders = [
        Run.begin(tmp_path, identity.model, options, OutputOptions()).store
        for options in (EnhanceFlags(for_asr=True), EnhanceOptions(mix=0.6))
    ]
    assert folders[0] == folders[1]


def start(tmp_path, identity_model, *words):
    command = ["archive", "enhance", "manifest", "-o", "out", "--jobs", "2", "--model", str(identity_model), *words]
    return subprocess.Popen([sys.executable, "-m", "sottovoce", *command], cwd=tmp_path, stdout=subprocess.DEVNULL)


def audio(tmp_path):
    """The enhanced recordings that are there, and what else is, both with their inodes."""
    found = {path.name: path.stat().st_ino for path in tmp_path.glob("out/*/audio/**/*") if path.is_file()}
    return {n: i for n, i in found.items() if n[0] != "."}, {n: i for n, i in found.items() if n[0] == "."}


def children_of(process):
    # They are started by threads.
    lists = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(pid) for pid in " ".join(lists).split()]


@pytest.fixture
def calm(tmp_path, save, identity_model):
    """A manifest of 30 recordings in 10 parts, and the content of what a calm run makes of them."""
    for number in range(30):
        save(tmp_path / "in" / f"{number:02}.wav", seconds=20 + number % 3, peak=0.01 * (number + 1), rate=44100)
    make_manifest([tmp_path / "in"], tmp_path / "manifest", part_items=3, jobs=2)
    with start(tmp_path, identity_model) as process:
        assert process.wait(300) == 0
    content = {path.name: path.read_bytes() for path in tmp_path.glob("out/*/audio/*")}
    (tmp_path / "out").rename(tmp_path / "calm")
    assert len(content) == 30
    return content


def assert_equal_to_calm(tmp_path, calm):
    assert {path.name: path.read_bytes() for path in tmp_path.glob("out/*/audio/*")} == calm
    tables = {
        folder: [
            {**json.loads(line), "work_seconds": None, "attempts": None}
            for path in sorted(tmp_path.glob(f"{folder}/*/results/*"))
            for line in path.read_text().splitlines()
        ]
        for folder in ("calm", "out")
    }
    assert len(tables["out"]) == 30
    assert tables["out"] == tables["calm"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_run_that_is_killed_ten_times_writes_each_file_once(tmp_path, calm, identity_model):
    seen = {}
    for kill in range(10):
        with start(tmp_path, identity_model) as process:
            deadline = time.monotonic() + 120
            # Within a recording, and each time at least one more than before.
            while not (len(audio(tmp_path)[0]) > len(seen) and audio(tmp_path)[1]):
                assert process.poll() is None, f"the run ended before kill {kill}"
                assert time.monotonic() < deadline
                time.sleep(0.002)
            workers = children_of(process.pid)
            assert workers
            process.kill()
            if kill % 2:  # as when the whole machine fails, and not the driver alone
                for worker in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
            process.wait()
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        now = audio(tmp_path)[0]
        assert {name: now.get(name) for name in seen} == seen, "a file that was finished was written again"
        seen = now
    with start(tmp_path, identity_model) as process:
        assert process.wait(120) == 0
    now, leftovers = audio(tmp_path)
    assert {name: now[name] for name in seen} == seen
    assert leftovers == {}
    assert_equal_to_calm(tmp_path, calm)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_run_whose_processes_are_killed_makes_what_a_calm_one_makes(tmp_path, calm, identity_model):
    kills = 0
    # More attempts than kills, which may all hit one recording.
    with start(tmp_path, identity_model, "--attempts", "9") as process:
        last = time.monotonic()
        while process.poll() is None:
            workers = children_of(process.pid) if kills < 8 else []
            if workers and audio(tmp_path)[1] and time.monotonic() - last > 0.2:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[kills % len(workers)], signal.SIGKILL)
                kills += 1
                last = time.monotonic()
            time.sleep(0.01)
        assert process.returncode == 0
    assert kills > 2
    assert audio(tmp_path)[1] == {}
    assert_equal_to_calm(tmp_path, calm)


def batches_of(monkeypatch, tmp_path, identity, items, jobs):
    """Ids of what a run gives out at once."""
    batches = []

    class Noting(ThisProcess):
        def call(self, function, given, task, *, advance):
            batches.append([item.id for item in given])
            return super().call(function, given, task, advance=advance)

    monkeypatch.setattr("sottovoce.archive.run.Workers", Noting)
    enhance_archive(write_manifest(items, tmp_path / "manifest"), tmp_path / "out", identity, jobs=jobs)
    return batches


def test_batches_are_of_ten_minutes_and_a_long_recording_is_one_alone(monkeypatch, tmp_path, save, identity):
    uri = save(tmp_path / "a.wav").as_uri()
    seconds = {"a": 200, "b": 200, "10 h": 36000, "c": 200, "none": None, "0 s": 0, "d": 500, "e": 36000}
    items = [Item(name, uri, seconds=length) for name, length in seconds.items()]
    assert batches_of(monkeypatch, tmp_path, identity, items, jobs=1) == [
        ["a", "b", "10 h"],
        ["c", "none", "0 s", "d"],
        ["e"],
    ]


def test_a_small_archive_has_batches_for_all_processes(monkeypatch, tmp_path, save, identity):
    uri = save(tmp_path / "a.wav").as_uri()
    items = [Item(f"{number}", uri, seconds=100) for number in range(16)]
    batches = batches_of(monkeypatch, tmp_path, identity, items, jobs=2)
    assert sorted(map(len, batches)) == [2] * 8


def test_an_item_that_says_ten_hours_and_has_less(tmp_path, save, identity, here):
    """What is done is what there is, and the progress comes to its end."""
    items = [Item("long", save(tmp_path / "a.wav").as_uri(), seconds=36000.0)]
    items += [Item("empty", save(tmp_path / "b.wav", seconds=0).as_uri(), seconds=0.0)]
    seen = []
    summary = enhance_archive(
        write_manifest(items, tmp_path / "manifest"),
        tmp_path / "out",
        identity,
        on_progress=lambda _, done, total, note="": seen.append((done, total)),
    )
    found = rows(summary)
    assert (found["long"]["seconds"], found["empty"]["status"]) == (0.1, "failed")
    assert "holds no samples" in found["empty"]["message"]
    assert seen[-1] == (36000, 36000)


def test_an_output_folder_that_may_not_be_written(tmp_path, manifest, identity, monkeypatch):
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("sottovoce.engine.files.os.access", lambda path, mode: False)
        with pytest.raises(StorageError, match=r"cannot write in the output folder .*: name one that you may write"):
            enhance_archive(manifest, tmp_path / "out", identity)
    assert enhance_archive(manifest, tmp_path / "out", identity).enhanced == 4
