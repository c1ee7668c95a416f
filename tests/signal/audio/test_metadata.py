"""What a recording says beside its samples stays in a copy, byte for byte where the kind of file is the same."""

import base64
import struct
import tracemalloc

import mutagen.apev2
import mutagen.flac
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.flac import Picture
from mutagen.id3 import APIC, CHAP, COMM, CTOC, ID3, TIT2, TPE1

from sottovoce.errors import AudioError, StorageError
from sottovoce.signal.audio import Writer, blocks, formats, probe, read, read_metadata
from sottovoce.signal.audio.metadata import read_parts
from sottovoce.signal.output import OutputOptions

from .files import cut, noise, one_sentence, save

TIME_REFERENCE = 123_456_789_012


def bext(version=1, loudness=bytes(10)):
    names = b"Interview".ljust(256, b"\0") + b"Recorder".ljust(32, b"\0") + b"DE123".ljust(32, b"\0")
    times = b"2026-11-2712:00:00" + struct.pack("<QH", TIME_REFERENCE, version) + bytes(64)
    return names + times + loudness + bytes(180) + b"A=PCM\r\n"


LEADING = [(b"bext", bext()), (b"iXML", b"<BWFXML><SCENE>4</SCENE></BWFXML>")]
TRAILING = [
    (b"cue ", struct.pack("<IIIIIII", 1, 1, 500, 0x61746164, 0, 0, 500)),
    (b"LIST", b"adtllabl" + struct.pack("<II", 13, 1) + b"Question\0\0"),
    (b"LIST", b"INFOIART" + struct.pack("<I", 5) + b"Anna\0\0"),
    (b"smpl", bytes(60)),
    (b"zzzz", b"anything"),
]


def packed(chunks, size="<I"):
    return b"".join(name + struct.pack(size, len(body)) + body + bytes(len(body) % 2) for name, body in chunks)


def with_chunks(path, leading=(), trailing=()):
    """Put chunks before and behind the others of a WAV or an AIFF."""
    content = path.read_bytes()
    size = ">I" if content[:4] == b"FORM" else "<I"
    content = content[:12] + packed(leading, size) + content[12:] + bytes(len(content) % 2) + packed(trailing, size)
    path.write_bytes(content[:4] + struct.pack(size, len(content) - 8) + content[8:])
    return path


def chunks_of(path):
    """Chunks of a WAV or an AIFF in their order, those of the samples and their kind without content."""
    content = path.read_bytes()
    order = ">" if content[:4] == b"FORM" else "<"
    if content[:4] == b"RF64":
        assert struct.unpack_from("<Q", content, 20)[0] == len(content) - 8
    else:
        assert struct.unpack_from(order + "I", content, 4)[0] == len(content) - 8
    position, found = 12, []
    while position < len(content):
        name, length = struct.unpack_from(order + "4sI", content, position)
        if name == b"data" and length == 0xFFFFFFFF:
            length = struct.unpack_from("<Q", content, 28)[0]
        body = content[position + 8 : position + 8 + length]
        if name not in (b"fmt ", b"data", b"ds64", b"fact", b"PEAK", b"COMM", b"SSND", b"FVER"):
            found.append((name, body))
        elif name in (b"data", b"SSND"):
            found.append((name, b""))
        position += 8 + length + length % 2
    return found


def copy(source, target, **options):
    """Write a recording as `enhance` does, and check that the samples are not touched."""
    info = probe(source)
    options = OutputOptions(**options)
    with Writer(
        target, info.sample_rate, info.channels, like=info, metadata=read_metadata(info), options=options
    ) as to:
        for block in blocks(source, 5000):
            to.write(block)
    after = probe(target)
    assert (after.frames, after.sample_rate, after.channels) == (info.frames, info.sample_rate, info.channels)
    return target


def plain(path):
    """The samples that the writer alone would have made of a recording."""
    info = probe(path)
    target = path.with_name(f"plain-{path.name}")
    with Writer(target, info.sample_rate, info.channels, like=info) as writer:
        for block in blocks(path, 5000):
            writer.write(block)
    return read(target)[0]


PICTURE = Picture()
PICTURE.type, PICTURE.mime, PICTURE.data = 3, "image/png", bytes(range(256)) * 600


class TestWav:
    @pytest.mark.parametrize(
        ("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24")]
    )
    @pytest.mark.parametrize("samples", [1000, 1001])
    def test_chunks_stay_where_they_were(self, tmp_path, kind, subtype, samples, caplog):
        path = with_chunks(save(tmp_path / "a.wav", noise(samples), format=kind, subtype=subtype), LEADING, TRAILING)
        target = copy(path, tmp_path / "b.wav")
        assert chunks_of(target) == [*LEADING, (b"data", b""), *TRAILING]
        np.testing.assert_array_equal(read(target)[0], plain(path))
        assert not caplog.records

    def test_time_reference_is_right(self, tmp_path):
        path = with_chunks(save(tmp_path / "a.wav", noise(1000)), LEADING)
        content = copy(path, tmp_path / "b.wav").read_bytes()
        start = content.index(b"bext") + 8
        assert struct.unpack_from("<Q", content, start + 338)[0] == TIME_REFERENCE

    def test_loudness_of_other_sound_is_not_kept(self, tmp_path):
        chunk = bext(2, struct.pack("<5h", -2300, 500, -100, -1800, -2000))
        path = with_chunks(save(tmp_path / "a.wav", noise(1000)), [(b"bext", chunk)])
        assert chunks_of(copy(path, tmp_path / "b.wav"))[0] == (b"bext", bext(2, b"\xff\x7f" * 5))

    def test_rf64(self, tmp_path, monkeypatch):
        leading = [(name, body + bytes(len(body) % 2)) for name, body in LEADING]
        path = with_chunks(save(tmp_path / "a.wav", noise(20_000)), LEADING, TRAILING)
        monkeypatch.setattr(formats, "_SIZE_LIMIT_BYTES", 10_000)
        target = copy(path, tmp_path / "b.wav")
        assert target.read_bytes()[:4] == b"RF64"
        # Other programs that read by libsndfile find no samples behind a chunk of odd length.
        assert chunks_of(target) == [*leading, (b"data", b""), *TRAILING]
        assert sf.info(target).frames == 20_000
        assert chunks_of(copy(target, tmp_path / "c.wav")) == chunks_of(target)

    def test_rf64_with_a_chunk_of_odd_length(self, tmp_path):
        path = save(tmp_path / "a.wav", noise(1000), format="RF64")
        expected = read(path)[0]
        content = path.read_bytes()
        content = content[:48] + packed([(b"bext", bext())]) + content[48:]
        path.write_bytes(content[:20] + struct.pack("<Q", len(content) - 8) + content[28:])
        np.testing.assert_array_equal(read(path)[0], expected)
        assert chunks_of(copy(path, tmp_path / "b.wav"))[0] == (b"bext", bext() + b"\0")

    def test_without_metadata(self, tmp_path, caplog):
        path = with_chunks(save(tmp_path / "a.wav", noise(1000)), LEADING, TRAILING)
        assert (
            copy(path, tmp_path / "b.wav", metadata=False).read_bytes()
            == save(tmp_path / "c.wav", noise(1000)).read_bytes()
        )
        assert not caplog.records

    def test_other_kind_names_what_is_lost(self, tmp_path, caplog):
        path = with_chunks(save(tmp_path / "a.wav", noise(1000)), LEADING, TRAILING)
        target = copy(path, tmp_path / "b.flac")
        (record,) = caplog.records
        assert record.getMessage() == (
            f"{target}: left out, since this kind of file has no place for it: bext, iXML, cue points, labels, loops, "
            "zzzz"
        )
        assert mutagen.File(target).tags["artist"] == ["Anna"]

    @pytest.mark.parametrize("length", [2**20, 2**31, 0xFFFF_FFF0])
    def test_chunk_that_ends_behind_the_file_is_not_believed(self, tmp_path, length, caplog):
        path = save(tmp_path / "a.wav", noise(1000))
        path.write_bytes(path.read_bytes() + b"LGWV" + struct.pack("<I", length) + bytes(100))
        tracemalloc.start()
        target = copy(path, tmp_path / "b.wav")
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.stop()
        assert chunks_of(target) == [(b"data", b"")]
        assert caplog.records[0].getMessage().endswith(f": LGWV of {length} bytes")

    def test_chunk_larger_than_any_tags_is_left_out(self, tmp_path, caplog):
        path = save(tmp_path / "a.wav", noise(1000))
        with_chunks(path, (), [(b"LGWV", bytes(2**24 + 2)), *TRAILING])
        assert chunks_of(copy(path, tmp_path / "b.wav")) == [(b"data", b""), *TRAILING]
        assert caplog.records[0].getMessage().endswith(": LGWV of 16777218 bytes")

    @pytest.mark.parametrize("name", ["a.aiff", "a.mp3"])
    def test_id3_in_a_wav_and_back(self, tmp_path, name, caplog):
        path = save(tmp_path / "a.mp3", noise(5000))
        make_id3().save(path)
        tag = path.read_bytes()[: read_metadata(probe(path)).id3.__len__()]
        wav = copy(path, tmp_path / "b.wav")
        assert dict(chunks_of(wav))[b"id3 "] == tag
        assert mutagen.File(wav).tags["TPE1"].text == ["Anna"]
        target = copy(wav, tmp_path / f"c-{name}")
        assert mutagen.File(target).tags.getall("APIC")[0].data == PICTURE.data
        assert not caplog.records

    def test_tags_that_every_kind_has_become_info(self, tmp_path):
        path = save(tmp_path / "a.flac", noise(1000))
        tags = mutagen.File(path)
        tags.update({"title": "Zwölf", "artist": "Anna", "tracknumber": "3"})
        tags.save()
        with sf.SoundFile(copy(path, tmp_path / "b.wav")) as file:
            assert (file.title, file.artist, file.tracknumber) == ("Zwölf", "Anna", "3")

    @given(st.binary(max_size=200), st.integers(0, 60))
    @settings(max_examples=30, deadline=None)
    def test_nothing_at_the_end_of_a_wav_stops_it(self, tmp_path_factory, rubbish, position):
        folder = tmp_path_factory.mktemp("wav")
        path = with_chunks(save(folder / "a.wav", noise(100)), (), [(b"LIST", b"INFOINAM" + rubbish)])
        content = bytearray(path.read_bytes())
        content[244 + position % (len(content) - 244)] ^= 0xFF
        path.write_bytes(content)
        try:
            probe(path)
        except AudioError:
            return
        copy(path, folder / "b.wav")


AIFF_CHUNKS = [
    (b"NAME", b"Interview"),
    (b"MARK", struct.pack(">HHIB5s", 1, 1, 500, 5, b"Hello")),
    (b"CHAN", struct.pack(">III", 0, 3, 0)),
]


class TestOtherChunks:
    @pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_S8"])
    def test_aiff(self, tmp_path, subtype):
        path = with_chunks(save(tmp_path / "a.aiff", noise(1001), subtype=subtype), AIFF_CHUNKS[:1], AIFF_CHUNKS[1:])
        target = copy(path, tmp_path / "b.aiff")
        assert chunks_of(target) == [*AIFF_CHUNKS[:1], (b"SSND", b""), *AIFF_CHUNKS[1:]]
        np.testing.assert_array_equal(read(target)[0], plain(path))

    def test_layout_of_an_aiff_is_no_metadata(self, tmp_path):
        path = with_chunks(save(tmp_path / "a.aiff", noise(1000)), AIFF_CHUNKS)
        assert chunks_of(copy(path, tmp_path / "b.aiff", metadata=False)) == [AIFF_CHUNKS[-1], (b"SSND", b"")]

    def test_caf(self, tmp_path):
        path = save(tmp_path / "a.caf", noise(1001), subtype="PCM_24")
        user = b"uuid" + struct.pack(">q", 21) + bytes(range(16)) + b"Hello"
        path.write_bytes(path.read_bytes()[: 4092 + 4 + 3003] + user)
        target = copy(path, tmp_path / "b.caf")
        assert target.read_bytes().endswith(user)
        assert (probe(target).format, probe(target).subtype) == ("CAF", "PCM_24")
        np.testing.assert_array_equal(read(target)[0], plain(path))

    def test_w64(self, tmp_path):
        path = save(tmp_path / "a.w64", noise(1001), subtype="PCM_U8")
        content = path.read_bytes()
        samples = read(path)[0]
        content += bytes(-len(content) % 8)
        chunk = b"bext" + bytes(range(12)) + struct.pack("<Q", 24 + 13) + b"Hello, world!" + bytes(3)
        content = content[:16] + struct.pack("<Q", len(content) + len(chunk)) + content[24:] + chunk
        path.write_bytes(content)
        np.testing.assert_array_equal(read(path)[0], samples)
        target = copy(path, tmp_path / "b.w64")
        assert chunk in target.read_bytes()
        assert struct.unpack_from("<Q", target.read_bytes(), 16)[0] == target.stat().st_size
        assert (probe(target).format, probe(target).subtype) == ("W64", "PCM_U8")
        np.testing.assert_array_equal(read(target)[0], plain(path))


def make_id3():
    tags = ID3()
    tags.add(TIT2(text="Interview"))
    tags.add(TPE1(text="Anna"))
    tags.add(COMM(lang="eng", desc="", text="by the mill"))
    tags.add(APIC(mime="image/png", type=3, data=PICTURE.data))
    tags.add(CTOC(element_id="toc", flags=3, child_element_ids=["one", "two"], sub_frames=[]))
    for index, name in enumerate(["one", "two"]):
        tags.add(
            CHAP(element_id=name, start_time=100 * index, end_time=100 * index + 100, sub_frames=[TIT2(text=name)])
        )
    return tags


class TestMp3:
    @pytest.mark.parametrize("version", [3, 4])
    def test_tags_cover_and_chapters(self, tmp_path, version, caplog):
        path = save(tmp_path / "a.mp3", noise(5000))
        make_id3().save(path, v2_version=version, v1=2)
        before = path.read_bytes()
        target = copy(path, tmp_path / "b.mp3")
        length = len(read_metadata(probe(path)).id3)
        assert target.read_bytes()[:length] == before[:length]
        assert target.read_bytes()[-128:] == before[-128:]
        tags = mutagen.File(target).tags
        assert [chapter.end_time for chapter in tags.getall("CHAP")] == [100, 200]
        assert tags.getall("APIC")[0].data == PICTURE.data
        np.testing.assert_array_equal(read(target)[0], plain(path))
        assert not caplog.records

    def test_ape_tag(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(5000))
        tags = mutagen.apev2.APEv2()
        tags["Artist"] = "Anna"
        tags.save(path)
        assert mutagen.apev2.APEv2(copy(path, tmp_path / "b.mp3"))["Artist"] == "Anna"

    def test_flac_has_no_place_for_chapters(self, tmp_path, caplog):
        path = save(tmp_path / "a.mp3", noise(5000))
        make_id3().save(path)
        target = copy(path, tmp_path / "b.flac")
        assert caplog.records[0].getMessage().endswith("has no place for it: chapters, cover")
        assert mutagen.File(target).tags["title"] == ["Interview"]

    def test_a_tag_of_no_length_is_none(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(5000))
        path.write_bytes(b"ID3\x04\0\0\x80\0\0\0" + path.read_bytes())
        assert read_parts(path).id3 == b""

    def test_tag_that_ends_behind_the_file(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(5000))
        path.write_bytes(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + path.read_bytes())
        with pytest.raises(AudioError) as error:
            probe(path)
        one_sentence(error)


KINDS = [("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS")]


class TestComments:
    """Tags of FLAC, Ogg Vorbis and Opus, which share a form."""

    def tagged(self, path, kind, subtype, pictures=1):
        save(path, noise(12_000), format=kind, subtype=subtype)
        tags = mutagen.File(path)
        tags["title"], tags["artist"], tags["mood"] = "Zwölf", ["Anna", "Bo"], "calm"
        if kind == "FLAC":
            for _ in range(pictures):
                tags.add_picture(PICTURE)
        else:
            tags["metadata_block_picture"] = pictures * [base64.b64encode(PICTURE.write()).decode()]
        tags.save()
        return path

    def pictures(self, path):
        tags = mutagen.File(path)
        if path.suffix == ".flac":
            return [picture.write() for picture in tags.pictures]
        return [base64.b64decode(text) for text in tags.get("metadata_block_picture", [])]

    @pytest.mark.parametrize("source", KINDS, ids=lambda kind: kind[0])
    @pytest.mark.parametrize("target", KINDS, ids=lambda kind: kind[0])
    def test_tags_and_covers(self, tmp_path, source, target, caplog):
        path = self.tagged(tmp_path / f"a.{source[0]}", *source[1:])
        made = copy(path, tmp_path / f"b.{target[0]}")
        tags = mutagen.File(made).tags
        assert (tags["title"], tags["artist"], tags["mood"]) == (["Zwölf"], ["Anna", "Bo"], ["calm"])
        assert self.pictures(made) == [PICTURE.write()]
        assert not caplog.records

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
    @pytest.mark.parametrize("pictures", [0, 3])
    def test_samples_are_untouched(self, tmp_path, kind, pictures):
        path = self.tagged(tmp_path / f"a.{kind[0]}", *kind[1:], pictures)
        made = copy(path, tmp_path / f"b.{kind[0]}")
        np.testing.assert_array_equal(read(made)[0], plain(path))

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
    def test_without_metadata(self, tmp_path, kind):
        path = self.tagged(tmp_path / f"a.{kind[0]}", *kind[1:])
        made = copy(path, tmp_path / f"b.{kind[0]}", metadata=False)
        assert not self.pictures(made)
        assert "title" not in (mutagen.File(made).tags or {})

    def test_wav_names_what_is_lost(self, tmp_path, caplog):
        path = self.tagged(tmp_path / "a.flac", "FLAC", "PCM_16")
        copy(path, tmp_path / "b.wav")
        assert caplog.records[0].getMessage().endswith("has no place for it: MOOD, cover")

    def test_cue_sheet(self, tmp_path):
        path = save(tmp_path / "a.flac", noise(3000), 44100)
        sheet = mutagen.flac.CueSheet(bytes(128) + bytes(8) + b"\x80" + bytes(258) + b"\x01" + bytes(36))
        file = mutagen.flac.FLAC(path)
        file.metadata_blocks.append(sheet)
        file.save()
        before, after = mutagen.flac.FLAC(path), mutagen.flac.FLAC(copy(path, tmp_path / "b.flac"))
        assert before.cuesheet is not None
        assert after.cuesheet.write() == before.cuesheet.write()

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
    @pytest.mark.parametrize("keep", [0.001, 0.3])
    def test_cut_header(self, tmp_path, kind, keep):
        path = cut(self.tagged(tmp_path / f"a.{kind[0]}", *kind[1:]), keep)
        with pytest.raises(AudioError):
            copy(path, tmp_path / f"b.{kind[0]}")
        assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_writing_stays_atomic(tmp_path, monkeypatch):
    path = with_chunks(save(tmp_path / "a.wav", noise(1000)), LEADING, TRAILING)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sottovoce.signal.audio.writing.write_metadata", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        copy(path, tmp_path / "b.wav")
    assert list(tmp_path.iterdir()) == [path]
