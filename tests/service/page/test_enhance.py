"""One recording from upload to download, as somebody does it who sees, hears or uses the keyboard alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

from sottovoce.service.client import Client, RefusedError

from ...signal.audio.files import noise, save
from ..calls import call, serving
from .test_page import check_accessibility

RECORDING = Path(__file__).parents[3] / "examples" / "real" / "jfk_inaugural_1961.flac"
TOKEN = "correct-horse-battery"


def upload(page, path):
    page.set_input_files("input[type=file]", path)


def uploaded(page, path):
    """Upload, and wait for the result."""
    upload(page, path)
    page.locator(".result").wait_for()
    return page


def is_drawn(page):
    page.locator(".lane:nth-child(3)[aria-busy=false]").wait_for()


def download(page, button):
    with page.expect_download() as found:
        page.get_by_role("button", name=button).click()
    return found.value.suggested_filename, found.value.path().read_bytes()


def command(tmp_path, *flags, source=RECORDING):
    """What `sottovoce enhance` writes."""
    target = tmp_path / f"command{'_'.join(flags)}{source.suffix}"
    command = [sys.executable, "-m", "sottovoce", "enhance", source, "-o", target, "--quiet", *flags]
    subprocess.run(command, check=True)
    return target.read_bytes()


@pytest.mark.slow
def test_downloads_equal_the_files_of_the_command(open_page, tmp_path):
    page = uploaded(open_page(accept_downloads=True), RECORDING)
    assert page.get_by_role("heading", name=RECORDING.name).is_visible()
    assert page.get_by_text("0:11.0 · 44.1 kHz · mono").is_visible()
    assert download(page, "Download enhanced") == ("jfk_inaugural_1961-enhanced.flac", command(tmp_path))
    removed = command(tmp_path, "--removed")
    assert download(page, "Download what was removed") == ("jfk_inaugural_1961-removed.flac", removed)
    page.get_by_label("Strength").fill("35")
    assert page.get_by_text("35 %").is_visible()
    assert download(page, "Download enhanced")[1] == command(tmp_path, "--mix", "0.35")
    page.locator(".seek").fill("4.5")
    page.keyboard.press("1")
    page.get_by_label("Noise reduction").select_option("12")
    page.get_by_label("Noise reduction").focus()
    page.locator(".result").wait_for(state="hidden")
    page.locator(".result").wait_for()
    # Strength, place, view and focus are where they were.
    assert page.get_by_label("Noise reduction").evaluate("choice => choice === document.activeElement")
    assert download(page, "Download enhanced")[1] == command(tmp_path, "--mix", "0.35", "--limit-db", "12")
    assert place(page) == pytest.approx(4.5, abs=0.05)
    assert page.locator(".segments [aria-pressed=true]").text_content() == "Before"
    page.get_by_label("Strength").fill("100")
    page.get_by_label("Room sound").select_option("dry")
    page.locator(".result").wait_for(state="hidden")
    page.locator(".result").wait_for()
    assert download(page, "Download enhanced")[1] == command(tmp_path, "--limit-db", "12", "--room", "dry")


def test_a_switch_and_the_strength_while_it_plays(open_page):
    page = uploaded(open_page(), RECORDING)
    is_drawn(page)
    assert page.locator(".player").evaluate("player => player === document.activeElement")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    heard = page.locator(".segments [aria-pressed=true]")
    assert heard.text_content() == "Enhanced"
    page.keyboard.press("1")
    assert heard.text_content() == "Before"
    page.keyboard.press("s")
    assert heard.text_content() == "Enhanced"
    assert page.locator(".lane.heard .lane-label").text_content() == "Enhanced"
    page.keyboard.press("3")
    assert heard.text_content() == "Removed"
    page.get_by_label("Strength").press("ArrowLeft")
    assert page.get_by_text("99 %").is_visible()
    # It plays on.
    first = place(page)
    page.wait_for_function("first => document.querySelector('.seek').value > first", arg=first)
    assert page.get_by_role("button", name="Pause").is_visible()


def place(page):
    return float(page.locator(".seek").input_value())


def region(page):
    return tuple(float(page.get_by_label(name, exact=True).input_value()) for name in ("from", "to"))


def test_a_region_repeats_by_mouse_keys_and_fields(open_page):
    page = uploaded(open_page(), RECORDING)
    repeat = page.get_by_label("Repeat")
    box = page.locator(".plot").bounding_box()
    y = box["y"] + 20
    page.mouse.move(box["x"] + 0.25 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], y, steps=3)
    page.mouse.up()
    assert repeat.is_checked()
    assert region(page) == pytest.approx((2.75, 5.5), abs=0.05)
    assert place(page) == pytest.approx(2.75, abs=0.05)
    # A click goes to a place; outside the region, to its nearest end.
    page.mouse.click(box["x"] + 0.4 * box["width"], y)
    assert place(page) == pytest.approx(4.4, abs=0.05)
    page.locator(".player").focus()
    page.keyboard.press("[")
    assert region(page) == pytest.approx((4.4, 5.5), abs=0.05)
    page.keyboard.press("ArrowLeft")
    assert place(page) == pytest.approx(4.4, abs=0.05)
    page.keyboard.press("l")
    assert not repeat.is_checked()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert place(page) == pytest.approx(2.1, abs=0.011)
    page.keyboard.press("]")
    assert region(page) == pytest.approx((0, 2.1), abs=0.011)
    page.get_by_label("from", exact=True).fill("1.5")
    page.get_by_label("from", exact=True).press("Enter")
    assert region(page) == pytest.approx((1.5, 2.1), abs=0.011)
    # What is no region changes nothing.
    page.get_by_label("to", exact=True).fill("0.3")
    page.get_by_label("to", exact=True).press("Enter")
    assert region(page) == pytest.approx((1.5, 2.1), abs=0.011)


@pytest.mark.slow
def test_a_blind_test_by_keyboard(open_page):
    """X is A in every other trial here; whoever says so is right each time, and chance hardly ever is."""
    page = open_page()
    page.evaluate("() => { crypto.getRandomValues = (bytes) => bytes.map((_, n) => n % 2); }")
    uploaded(page, RECORDING)
    is_drawn(page)
    page.get_by_role("button", name="Blind test").press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Trials").fill("10")
    dialog.get_by_label("Trials").press("Enter")
    check_accessibility(page)
    for number in range(10):
        assert dialog.get_by_text(f"Trial {number + 1} of 10").is_visible()
        page.keyboard.press("x")
        assert dialog.locator(".segments [aria-pressed=true]").text_content() == "X"
        # Nothing behind it says which one X is.
        assert page.locator(".lane.heard .lane-label").text_content() == "Enhanced"
        assert "Right" not in dialog.text_content()
        page.keyboard.press("2" if number % 2 else "1")
    assert dialog.get_by_text("10 of 10 right").is_visible()
    assert dialog.get_by_text("p = 0.00098").is_visible()
    dialog.get_by_role("button", name="Test again").press("Enter")
    dialog.get_by_label("Tell me after each trial").check()
    dialog.get_by_role("button", name="Start").click()
    for answer, word in (("1", "Right"), ("1", "Wrong")):
        page.keyboard.press(answer)
        dialog.get_by_text(f"{word}. Trial").wait_for()
    for _ in range(10):
        page.keyboard.press("1")
    assert dialog.get_by_text("6 of 12 right").is_visible()
    assert dialog.get_by_text("p = 0.61").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_the_sentences_of_the_service_are_shown(open_page, tmp_path):
    page = open_page()
    alert = page.get_by_role("alert")
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
    upload(page, tmp_path / "letter.txt")
    alert.wait_for()
    with pytest.raises(RefusedError) as refusal:
        Client(page.url.partition("#")[0].rstrip("/")).enhance(tmp_path / "letter.txt", tmp_path / "never")
    assert alert.text_content().lower() == f"{refusal.value}.".lower()
    upload(page, save(tmp_path / "long.wav", noise(16_000 * 31)))
    page.get_by_text(re.compile("more than 0.5 minutes of sound")).wait_for()
    assert page.locator(".result").is_hidden()
    # And then a good one.
    uploaded(page, RECORDING)
    assert alert.is_hidden()


@pytest.fixture
def long_recording(tmp_path):
    """Less than half a minute, both channels together, and more bytes than are enhanced at once."""
    return save(tmp_path / "long.wav", noise(48_000 * 14, channels=2), rate=48_000, subtype="PCM_24")


@pytest.mark.slow
def test_a_large_file_is_a_job_which_is_deleted_when_it_is_here(open_page, long_recording, tmp_path):
    page = open_page(accept_downloads=True)
    requests = []
    page.on("request", lambda request: requests.append((request.method, request.url.partition("/v1/")[2])))
    uploaded(page, long_recording)
    assert download(page, "Download enhanced")[1] == command(tmp_path, source=long_recording)
    assert ("POST", "jobs") in requests
    assert ("POST", "audio/enhancements") not in requests
    (deleted,) = [path for method, path in requests if method == "DELETE"]
    assert call(page.url, "GET", f"/v1/{deleted}").error[0] == "no_job"


def test_cancel_deletes_the_job(open_page, long_recording):
    page = open_page()
    asked = []
    # How far it is remains unanswered.
    page.route(re.compile("/v1/jobs/[^/]+$"), lambda route: asked.append(route) or answer(route))

    def answer(route):
        if route.request.method == "DELETE":
            route.continue_()

    with page.expect_request(lambda request: request.method == "GET" and "/v1/jobs/" in request.url):
        upload(page, long_recording)
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        page.get_by_role("button", name="Cancel").click()
    assert deleted.value.status == 204
    page.get_by_text("Cancelled").wait_for()
    assert page.locator(".result").is_hidden()
    assert page.get_by_role("alert").is_hidden()


@pytest.mark.slow
def test_files_that_browsers_shift_are_decoded_by_the_service(open_page, tmp_path):
    path = tmp_path / "a.mp3"
    sf.write(path, *sf.read(RECORDING), format="MP3")
    page = uploaded(open_page(accept_downloads=True), path)
    assert page.get_by_text("44.1 kHz · mono").is_visible()
    assert download(page, "Download enhanced") == ("a-enhanced.mp3", command(tmp_path, source=path))


def test_the_microphone_is_a_recording(open_page):
    page = open_page(permissions=["microphone"])
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Stop at 0:01").click()
    page.locator(".result").wait_for()
    assert page.get_by_role("heading", name="recording.wav").is_visible()


def test_it_asks_for_the_token_once(open_page, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    with serving(folder=tmp_path / "state", token_file=tmp_path / "token", workers=1) as service:
        page = open_page(address=service.address)
        dialog = page.get_by_role("dialog", name="This service needs a token")
        dialog.wait_for()
        check_accessibility(page)
        dialog.get_by_label("Token").fill("no-such-token-here")
        dialog.get_by_label("Token").press("Enter")
        # It asks again until it fits.
        page.wait_for_function("document.getElementById('token-value').value === ''")
        dialog.get_by_label("Token").fill(TOKEN)
        dialog.get_by_label("Token").press("Enter")
        page.get_by_role("option", name="live").wait_for(state="attached")
        uploaded(page, RECORDING)
        page.reload()
        page.get_by_role("option", name="live").wait_for(state="attached")
        assert page.get_by_role("dialog").count() == 0


def test_nobody_is_kept_out_of_the_result(open_page):
    page = uploaded(open_page(), RECORDING)
    page.get_by_text("Keys", exact=True).click()
    check_accessibility(page)
