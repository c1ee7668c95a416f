import contextlib
import functools
import hashlib
import http.server
import io
import re
import shutil
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sottovoce.data.corpora import catalogue
from sottovoce.data.corpora.catalogue import ARCHIVES, CORPORA, Archive, fetch, pairs, read_corpus
from sottovoce.errors import DataError, MissingExtraError

from ..synthetic import RATE, write

NOISEX = [
    *("babble", "buccaneer1", "buccaneer2", "destroyerengine", "destroyerops", "f16", "factory1", "factory2"),
    *("hfchannel", "leopard", "m109", "machinegun", "pink", "volvo", "white"),
]
NOISEX_KINDS = {"babble", "buccaneer", "destroyer", "f16", "factory", "hfchannel", "leopard", "m109", "machinegun"} | {
    "pink",
    "volvo",
    "white",
}
DAPS = [f"{sex}{speaker}_script{script}" for sex in "fm" for speaker in range(1, 11) for script in range(1, 6)]
GUIDE = (Path(__file__).parents[3] / "docs" / "corpora.md").read_text(encoding="utf-8")
READER = "book_00000_chp_0009_reader_06709_"
NOISY = f"{READER}11_door_Freesound_validated_235661_0_snr7_tl-23_fileid_"


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """Make files that sound: each a copy of one recording per rate and length."""
    made = {}

    def make(path, seconds=0.5, rate=RATE):
        if (path.suffix, seconds, rate) not in made:
            original = tmp_path_factory.mktemp("sound") / f"original{path.suffix}"
            noise = np.random.default_rng(0).standard_normal(round(seconds * rate))
            write(original, (0.1 * noise).astype(np.float32), rate)
            made[path.suffix, seconds, rate] = original
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made[path.suffix, seconds, rate], path)
        return path

    return make


def lay_out(name, root, sound):
    """The smallest folder that is whole, and the groups that must be found."""
    files = {
        "daps": [f"daps/clean/{file}_clean.wav" for file in DAPS]
        + ["daps/cleanraw/f1_script1_cleanraw.wav", "daps/ipad_balcony1/f1_script1_ipad_balcony1.wav"],
        "librispeech": [
            "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac",
            "LibriSpeech/dev-clean/84/121550/84-121550-0003.flac",
            "LibriSpeech/test-clean/908/31957/908-31957-0001.flac",
        ],
        "voicebank": [
            f"{side}_trainset_28spk_wav/{file}.wav"
            for side in ("clean", "noisy")
            for file in ("p226_001", "p226_002", "p287_001")
        ],
        "voicebank-test": [
            f"{side}_testset_wav/{file}.wav" for side in ("clean", "noisy") for file in ("p232_001", "p257_001")
        ],
        "dns-speech": [
            f"datasets/clean/read_speech/{READER}1.wav",
            f"datasets/clean/read_speech/{READER}2.wav",
            "datasets/clean/read_speech/book_00002_chp_0005_reader_11980_5.wav",
            "datasets/clean/emotional_speech/crema_d/1001_DFA_ANG_XX.wav",
        ],
        "dns-test": [f"datasets/test_set/synthetic/no_reverb/clean/clean_fileid_{number}.wav" for number in (2, 10)]
        + [f"datasets/test_set/synthetic/no_reverb/noisy/{NOISY}{number}.wav" for number in (10, 2)],
        "dns-noise": [
            "datasets/noise/--9VR_F7CtY.wav",
            "datasets/noise/door_Freesound_validated_235661_0.wav",
            "datasets/noise/door_Freesound_validated_349356_3.wav",
            "datasets/noise/breath_spit_Freesound_validated_406647_0.wav",
        ],
        "noisex92": [f"{kind}.wav" for kind in NOISEX],
        "slr28-noise": ["RIRS_NOISES/pointsource_noises/noise-free-sound-0000.wav"],
        "slr28": [
            "RIRS_NOISES/pointsource_noises/noise-free-sound-0000.wav",
            "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav",
            "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00002.wav",
            "RIRS_NOISES/simulated_rirs/largeroom/Room001/Room001-00001.wav",
        ]
        + [
            f"RIRS_NOISES/real_rirs_isotropic_noises/{file}.wav"
            for file in (
                "RVB2014_type1_rir_largeroom1_far_angla",
                "RVB2014_type2_rir_largeroom1_near_anglb",
                "RVB2014_type1_noise_largeroom1_1",
                "RWCP_type1_rir_cirline_e2b_imp110",
                "RWCP_type4_rir_p30l",
                "air_type1_air_binaural_office_0_1",
                "air_type1_air_phone_bt_office_hhp",
            )
        ],
        "dns-rooms": [
            "datasets/impulse_responses/SLR26/simulated_rirs_16k/largeroom/Room001/Room001-00004.wav",
            "datasets/impulse_responses/SLR28/RIRS_NOISES/simulated_rirs/largeroom/Room001/Room001-00009.wav",
            "datasets/impulse_responses/SLR28/RIRS_NOISES/simulated_rirs/largeroom/Room002/Room002-00001.wav",
        ],
        "mit-ir-survey": ["Audio/h001_Bedroom_65txts.wav", "Audio/h252_Auditorium_1txts.wav"],
        "openair": [
            "jack-lyons-hall/b-format/s1r1.wav",
            "jack-lyons-hall/examples/singing.wav",
            "maes-howe/stereo/r1.wav",
        ],
    }
    groups = {
        "daps": {file.split("_")[0] for file in DAPS},
        "librispeech": {"84", "908"},
        "voicebank": {"p226", "p287"},
        "voicebank-test": {"p232", "p257"},
        "dns-speech": {"reader_06709", "reader_11980", "emotional_speech"},
        "dns-test": {"clean_fileid_2", "clean_fileid_10"},
        "dns-noise": {"--9VR_F7CtY", "door", "breath_spit"},
        "noisex92": NOISEX_KINDS,
        "slr28-noise": {"noise-free-sound-0000"},
        "slr28": {
            *("smallroom/Room001", "largeroom/Room001", "RVB2014_largeroom1", "RWCP_e2b", "RWCP_type4", "air_office"),
        },
        "dns-rooms": {"largeroom/Room001", "largeroom/Room002"},
        "mit-ir-survey": {"h001", "h252"},
        "openair": {"jack-lyons-hall", "maes-howe"},
    }
    seconds = 0.2 if CORPORA[name].holds == "rooms" else 0.5
    for file in files[name]:
        sound(root / file, seconds)
    return groups[name]


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_read_as_it_lies(tmp_path, sound, name):
    groups = lay_out(name, tmp_path, sound)
    manifest = read_corpus(f"{name}:{tmp_path}", CORPORA[name].holds)
    assert set(manifest.groups) == groups
    assert not manifest.unusable
    assert all(recording.path.is_file() for recording in manifest.recordings)


@pytest.mark.parametrize(
    ("name", "inside", "count"),
    [
        ("daps", "daps", 100),
        ("librispeech", "LibriSpeech", 3),
        ("librispeech", "LibriSpeech/dev-clean", 2),
        ("dns-speech", "datasets", 4),
        ("slr28", "RIRS_NOISES", 9),
        ("mit-ir-survey", "Audio", 2),
    ],
)
def test_the_inner_folder_does_as_well(tmp_path, sound, name, inside, count):
    lay_out(name, tmp_path, sound)
    assert len(read_corpus(f"{name}:{tmp_path / inside}", CORPORA[name].holds).recordings) == count


@pytest.mark.parametrize("name", ["slr28", "openair"])
def test_other_sounds_of_a_corpus_are_left_out(tmp_path, sound, name):
    lay_out(name, tmp_path, sound)
    paths = [recording.path for recording in read_corpus(f"{name}:{tmp_path}", "rooms").recordings]
    assert not [path for path in paths if "noise" in path.name or "examples" in path.parts]
    for path in paths:
        path.unlink()
    with pytest.raises(DataError, match="only other sounds"):
        read_corpus(f"{name}:{tmp_path}", "rooms")


def test_missing_files_are_counted_and_named(tmp_path, sound):
    lay_out("daps", tmp_path, sound)
    (tmp_path / "daps/clean/f3_script2_clean.wav").unlink()
    with pytest.raises(DataError, match=r"1 of 100 files missing \(f3_script2_clean\) .* https://zenodo\.org") as one:
        read_corpus(f"daps:{tmp_path}", "speech")
    assert "unknown" not in str(one.value)
    for path in (tmp_path / "daps/clean").glob("m*"):
        path.unlink()
    with pytest.raises(DataError, match=r"51 of 100 files missing \(f3_script2_clean, m1_script1_clean, .*\.\.\.\)"):
        read_corpus(f"daps:{tmp_path}", "speech")


def test_a_renamed_file_is_missing_and_unknown(tmp_path, sound):
    lay_out("noisex92", tmp_path, sound)
    (tmp_path / "volvo.wav").rename(tmp_path / "car.wav")
    with pytest.raises(DataError, match=r"1 of 15 files missing \(volvo\) and 1 files unknown \(car\)"):
        read_corpus(f"noisex92:{tmp_path}", "noise")


@pytest.mark.parametrize("name", ["librispeech", "voicebank", "mit-ir-survey"])
def test_a_foreign_name_is_reported(tmp_path, sound, name):
    lay_out(name, tmp_path, sound)
    folder = min(path for path in tmp_path.rglob("*") if path.suffix).parent
    sound(folder / "strange.wav")
    with pytest.raises(DataError, match=r"found 1 of \d+ files .*strange.*https://"):
        read_corpus(f"{name}:{tmp_path}", CORPORA[name].holds)


@pytest.mark.parametrize(
    "name", ["daps", "voicebank", "voicebank-test", "dns-test", "dns-rooms", "slr28", "slr28-noise"]
)
def test_a_folder_of_something_else_is_reported(tmp_path, sound, name):
    sound(tmp_path / "anna" / "1.wav")
    with pytest.raises(DataError, match=rf"found no .*/ in .* {name.removesuffix('-test')}.*https://"):
        read_corpus(f"{name}:{tmp_path}", CORPORA[name].holds)


@pytest.mark.parametrize("name", CORPORA)
def test_a_folder_that_is_not_there_is_reported(tmp_path, name):
    with pytest.raises(DataError, match="nowhere"):
        read_corpus(f"{name}:{tmp_path / 'nowhere'}", CORPORA[name].holds)


def test_flac_copies_are_read_as_well(tmp_path, sound):
    for kind in NOISEX:
        sound(tmp_path / f"{kind}.flac")
    assert set(read_corpus(f"noisex92:{tmp_path}", "noise").groups) == NOISEX_KINDS


def test_what_cannot_be_used_is_reported_not_fatal(tmp_path, sound):
    lay_out("voicebank", tmp_path, sound)
    clean = tmp_path / "clean_trainset_28spk_wav"
    sound(clean / "p226_003.wav", 0.1)
    sound(clean / "p226_004.wav", rate=48000)
    write(clean / "p226_005.wav", np.zeros(RATE, np.float32))
    (clean / "p226_006.wav").write_bytes(b"RIFF and nothing more")
    manifest = read_corpus(f"voicebank:{tmp_path}", "speech")
    assert [(entry.path.stem, entry.path.parent) for entry in manifest.unusable] == [
        (f"p226_00{number}", clean) for number in (3, 5, 6)
    ]
    assert "0.10 s" in manifest.unusable[0].reason
    assert "silent" in manifest.unusable[1].reason
    assert {recording.sample_rate for recording in manifest.recordings} == {16000, 48000}


def test_a_short_response_is_a_room_not_speech(tmp_path, sound):
    sound(tmp_path / "office" / "1.wav", 0.1)
    sound(tmp_path / "office" / "2.wav", 0.02)
    manifest = read_corpus(str(tmp_path), "rooms")
    assert [recording.path.name for recording in manifest.recordings] == ["1.wav"]
    assert [entry.path.name for entry in manifest.unusable] == ["2.wav"]
    with pytest.raises(DataError, match="none can be used"):
        read_corpus(str(tmp_path), "speech")


def test_a_plain_folder_needs_no_name(speech_folder):
    seen = []
    manifest = read_corpus(str(speech_folder), "speech", progress=lambda done, total: seen.append((done, total)))
    assert manifest.groups == ("anna", "bert", "carl")
    assert seen == [(number, 6) for number in range(1, 7)]


def test_a_folder_may_have_a_colon(tmp_path, sound):
    sound(tmp_path / "12:30" / "a.wav")
    assert read_corpus(str(tmp_path / "12:30"), "speech").groups == ("a",)


def test_the_home_folder_may_stand_behind_the_colon(tmp_path, sound, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    lay_out("noisex92", tmp_path / "noise", sound)
    assert len(read_corpus("noisex92:~/noise", "noise").recordings) == 15


def test_progress_is_that_of_the_files(tmp_path, sound):
    lay_out("noisex92", tmp_path, sound)
    seen = []
    read_corpus(f"noisex92:{tmp_path}", "noise", progress=lambda *done: seen.append(done))
    assert seen == [(number, 15) for number in range(1, 16)]


def test_an_unknown_name_is_reported_with_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"found 'dabs:.*NAME one of daps, .*openair"):
        read_corpus(f"dabs:{tmp_path}", "speech")


@pytest.mark.parametrize("argument", ["daps:", "C:nowhere", ":nowhere"])
def test_an_odd_argument_is_reported(argument):
    with pytest.raises(DataError, match="found"):
        read_corpus(argument, "speech")


def test_a_corpus_of_another_kind_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(DataError, match=r"holds noise, expected rooms: .*slr28, dns-rooms, mit-ir-survey, openair"):
        read_corpus(f"noisex92:{tmp_path / 'nowhere'}", "rooms")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("voicebank", [("p226_001", "p226_001"), ("p226_002", "p226_002"), ("p287_001", "p287_001")]),
        ("voicebank-test", [("p232_001", "p232_001"), ("p257_001", "p257_001")]),
        ("dns-test", [(f"{NOISY}10", "clean_fileid_10"), (f"{NOISY}2", "clean_fileid_2")]),
    ],
)
def test_pairs_belong_together(tmp_path, sound, name, names):
    lay_out(name, tmp_path, sound)
    found = pairs(f"{name}:{tmp_path}")
    assert [(pair.noisy.stem, pair.clean.stem) for pair in found] == names
    assert all(pair.name == pair.noisy.stem and pair.noisy.is_file() for pair in found)
    clean = [recording.path for recording in read_corpus(f"{name}:{tmp_path}", "speech").recordings]
    assert sorted(pair.clean for pair in found) == clean


@pytest.mark.parametrize("name", [name for name, corpus in CORPORA.items() if corpus.pair])
@pytest.mark.parametrize("side", ["noisy", "clean"])
def test_a_recording_without_counterpart_is_reported(tmp_path, sound, name, side):
    lay_out(name, tmp_path, sound)
    (gone,) = [path for path in tmp_path.rglob("*.wav") if side in path.parent.name and path.stem.endswith(("1", "2"))][
        :1
    ]
    gone.unlink()
    with pytest.raises(DataError, match=r"no counterpart in .* of 1 of \d files \(.*\), .*https://"):
        pairs(f"{name}:{tmp_path}")


def test_two_noisy_versions_of_one_number_are_reported(tmp_path, sound):
    lay_out("dns-test", tmp_path, sound)
    sound(tmp_path / "datasets/test_set/synthetic/no_reverb/noisy/other_fileid_2.wav")
    with pytest.raises(DataError, match="expected one of them"):
        pairs(f"dns-test:{tmp_path}")


def test_a_noisy_folder_that_is_missing_is_reported(tmp_path, sound):
    lay_out("voicebank-test", tmp_path, sound)
    shutil.rmtree(tmp_path / "noisy_testset_wav")
    with pytest.raises(DataError, match="found no noisy_testset_wav/"):
        pairs(f"voicebank-test:{tmp_path}")


@pytest.mark.parametrize("argument", ["daps:somewhere", "somewhere"])
def test_pairs_need_a_corpus_that_has_them(argument):
    with pytest.raises(DataError, match=r"no corpus of pairs, expected one of voicebank:FOLDER"):
        pairs(argument)


@given(number=st.integers(0, 999), other=st.integers(0, 999))
@example(number=2, other=12)
@settings(max_examples=20)
def test_numbers_are_paired_whole(tmp_path_factory, number, other):
    root = tmp_path_factory.mktemp("pairs")
    for name in (f"noisy/a_snr5_tl-20_fileid_{number}.wav", f"clean/clean_fileid_{other}.wav"):
        path = root / "datasets/test_set/synthetic/no_reverb" / name
        path.parent.mkdir(parents=True)
        path.touch()
    with contextlib.nullcontext() if number == other else pytest.raises(DataError, match="no counterpart"):
        assert len(pairs(f"dns-test:{root}")) == 1


def test_every_corpus_says_where_it_comes_from():
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert ":" not in name
        assert corpus.address.startswith("http")
        assert corpus.licence.endswith(".")
    for archive in ARCHIVES.values():
        assert archive.corpus in CORPORA
        assert archive.address.endswith((".zip", ".tar.gz"))
        algorithm, digest = archive.checksum.split(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size


def test_the_guide_knows_every_corpus_and_archive():
    for name in [*CORPORA, *ARCHIVES]:
        assert f"| `{name}` |" in GUIDE
    for corpus in CORPORA.values():
        assert corpus.address in GUIDE


def test_the_corpus_that_the_guide_adds_is_read(tmp_path, sound, monkeypatch):
    for number in (1001, 1091):
        sound(tmp_path / "AudioWAV" / f"{number}_DFA_ANG_XX.wav")
    *_, function, line = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    parts = dict(vars(catalogue))
    exec(function, parts)
    (added,) = eval(f"({line})", parts)
    monkeypatch.setitem(CORPORA, added.name, added)
    assert read_corpus(f"crema-d:{tmp_path}", "speech").groups == ("1001", "1091")
    sound(tmp_path / "AudioWAV" / "noise.wav")
    with pytest.raises(DataError, match=r"1 of 3 files .*\(noise\).*CREMA-D"):
        read_corpus(f"crema-d:{tmp_path}", "speech")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Offer bytes as an archive, `cut` of them lost on the way, by a server on this machine."""
    pytest.importorskip("pooch")
    folder = tmp_path / "served"
    folder.mkdir()
    lost = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[: len(content) - lost.get(Path(self.path).name, 0)])

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def offer(file, content, *, cut=0, checksum=None):
        (folder / file).write_bytes(content)
        lost[file] = cut
        checksum = checksum or "md5:" + hashlib.md5(content).hexdigest()
        address = f"http://127.0.0.1:{server.server_port}/{file}"
        monkeypatch.setitem(ARCHIVES, "mine", Archive("librispeech", address, checksum))

    yield offer
    server.shutdown()
    thread.join()
    server.server_close()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("file", "pack"), [("a.tar.gz", tarred), ("a.zip", zipped)])
def test_a_fetched_corpus_can_be_read(tmp_path, sound, served, capfd, file, pack):
    inside = "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac"
    served(file, pack({inside: sound(tmp_path / "one.flac").read_bytes()}))
    seen = []
    fetch("mine", tmp_path / "speech" / "dev", progress=lambda *done: seen.append(done))
    assert read_corpus(f"librispeech:{tmp_path / 'speech'}", "speech").groups == ("84",)
    size = (tmp_path / "served" / file).stat().st_size
    assert seen[-1] == (size, size)
    assert all(done <= total for done, total in seen)
    assert below(tmp_path / "speech") == {f"dev/{inside}"}
    assert capfd.readouterr() == ("", "")


def test_an_empty_folder_is_filled(tmp_path, served):
    served("a.zip", zipped({"a.txt": b"a"}))
    (tmp_path / "new").mkdir()
    fetch("mine", tmp_path / "new")
    assert below(tmp_path / "new") == {"a.txt"}


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("a.zip", zipped({"a.txt": b"a" * 1000}), {"cut": 100}),
        ("a.zip", zipped({"a.txt": b"a"}), {"checksum": "md5:" + 32 * "0"}),
        ("a.zip", b"no archive at all", {}),
        ("a.tar.gz", tarred({"good.txt": b"a", "../outside.txt": b"bad"}), {}),
    ],
    ids=["cut", "altered", "foreign", "traversal"],
)
def test_a_bad_download_leaves_nothing(tmp_path, served, file, content, options):
    served(file, content, **options)
    with pytest.raises(DataError, match=rf"no good copy of mine at http://.*/{file}"):
        fetch("mine", tmp_path / "new" / "corpus")
    assert not list((tmp_path / "new").iterdir())
    assert below(tmp_path) == {f"served/{file}"}


def test_a_zip_cannot_leave_its_folder(tmp_path, served):
    served("a.zip", zipped({"../../outside.txt": b"bad", "/rooted.txt": b"bad"}))
    fetch("mine", tmp_path / "new" / "corpus")
    assert below(tmp_path) == {"served/a.zip", "new/corpus/outside.txt", "new/corpus/rooted.txt"}


def test_an_address_that_is_gone_is_reported(tmp_path, served):
    served("a.zip", zipped({}))
    (tmp_path / "served/a.zip").unlink()
    with pytest.raises(DataError, match="404"):
        fetch("mine", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_files_is_never_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="expected a new folder"):
            fetch("slr28", folder)
    assert below(tmp_path) == {"mine.txt"}


def test_an_unknown_archive_is_reported(tmp_path):
    with pytest.raises(DataError, match="expected one of daps, librispeech-dev-clean"):
        fetch("voicebank", tmp_path / "new")


def test_fetching_without_pooch_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"sottovoce\[corpora\]"):
        fetch("slr28", tmp_path / "new")
