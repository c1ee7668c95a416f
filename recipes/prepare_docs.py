"""Makes what the documentation shows: recordings before and after the bundled model, its mask and latents, the page.

python recipes/prepare_docs.py

The page is that of `sottovoce serve`, in Chromium, whose microphone plays the recording. The service adapts a model to
some of the mixtures in `examples/`, in a few steps.
"""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import soundfile

import sottovoce
from sottovoce.cli.plot import plot
from sottovoce.metrics import plots
from sottovoce.service.client import Client
from sottovoce.service.server import Service
from sottovoce.service.settings import ServiceSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "examples" / "real" / "2609-156975-0004.flac"
VOICE = "fileid_0040.flac"
PLACE = sorted((ROOT / "examples" / "unpaired" / "mixtures").glob("*.ogg"))[:8]
_STEPS = 24
_QUALITY = 62
# A training is waited for.
_PATIENCE_MS = 3_600_000


def main() -> None:
    """Enhance, and write sound and picture."""
    before, rate = soundfile.read(RECORDING, dtype="float32")
    sounds = {"before": before, "after": sottovoce.enhance(before, rate)}
    folder = ROOT / "docs" / "audio"
    folder.mkdir(exist_ok=True)
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.ogg", sound, rate, format="OGG", subtype="VORBIS")
    signals = [(name, sound, rate) for name, sound in sounds.items()]
    plots.save(plots.recordings(signals), ROOT / "docs" / "images" / "before_after.png")
    draw_model(ROOT / "docs" / "images")
    with tempfile.TemporaryDirectory() as state:
        service = Service(ServiceSettings(port=0, workers=1, folder=Path(state)))
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            take_pictures(service.address, ROOT / "docs" / "images")
        finally:
            service.stop()
            thread.join()


def draw_model(folder: Path) -> None:
    """Draw mask and latents of a voice with loud noise.

    Args:
        folder: Where they go.
    """
    noisy, clean = (ROOT / "examples" / "pairs" / kind / VOICE for kind in ("noisy", "clean"))
    plot(noisy, mask=True, output=folder / "mask.jpg", overwrite=True)
    plot(noisy, (clean,), latent=True, output=folder / "latent.jpg", overwrite=True)
    plot(noisy, latent=True, output=folder / "latent_walk.webp", overwrite=True)


def take_pictures(address: str, folder: Path) -> None:
    """Take pictures of the sections of the page.

    Args:
        address: Of the service.
        folder: Where they go.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as work:
        microphone = Path(work) / "microphone.wav"
        soundfile.write(microphone, *soundfile.read(RECORDING), subtype="PCM_16")
        flags = [
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
        ]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, scheme, width in (("page", "light", 1080), ("page_phone", "dark", 360)):
            page = _open(browser, f"{address}/#enhance", scheme, width)
            page.set_input_files("#enhance input[type=file]", RECORDING)
            _place(page.locator("#enhance"))
            _save(page, folder / f"{name}.jpg")
        _take_blind_test(page, folder / "page_blind_test.jpg")
        _take_adapt(browser, address, folder / "page_adapt.jpg")
        _take_live(browser, address, folder / "page_live.jpg")
        browser.close()


def _open(browser: "Browser", address: str, scheme: Literal["light", "dark"], width: int) -> "Page":
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 640})
    page.set_default_timeout(_PATIENCE_MS)
    page.goto(address)
    return page


def _take_live(browser: "Browser", address: str, path: Path) -> None:
    page = _open(browser, f"{address}/#live", "dark", 1080)
    page.get_by_role("button", name="Start").click()
    page.get_by_label("I wear headphones").check()
    page.get_by_text("Latency").wait_for()
    page.wait_for_timeout(2000)
    _save(page, path)


def _take_adapt(browser: "Browser", address: str, path: Path) -> None:
    job = Client(address).adapt(PLACE, name="Reading room", steps=_STEPS)
    page = _open(browser, f"{address}/#adapt", "light", 1080)
    page.evaluate("id => sessionStorage.setItem('sottovoce.adaptation', id)", job.id)
    page.reload()
    page.locator("#adapt h3").wait_for()
    hear = page.get_by_label("Recording to compare with")
    if hear.count():  # it is no better than the old one if not
        hear.set_input_files(RECORDING)
        _place(page.locator("#adapt"))
    _save(page, path)


def _place(section: "Locator") -> None:
    """Wait until all is drawn, and go to a place within the recording."""
    section.locator(".lane:nth-child(3)[aria-busy=false]").wait_for()
    section.locator(".seek").fill("4.5")
    section.locator(".seek").blur()


def _take_blind_test(page: "Page", path: Path) -> None:
    """Answer as somebody who knows X does: at once, and always right."""
    page.evaluate("() => { crypto.getRandomValues = (bytes) => bytes.map((_, n) => n % 3 % 2); }")
    page.get_by_role("button", name="Blind test").click()
    page.get_by_label("Trials").fill("10")
    page.get_by_role("button", name="Start").click()
    for number in range(10):
        page.keyboard.press("2" if number % 3 % 2 else "1")
    page.get_by_role("dialog").screenshot(path=path, type="jpeg", quality=_QUALITY)


def _save(page: "Page", path: Path) -> None:
    page.screenshot(path=path, type="jpeg", quality=_QUALITY, full_page=True)


if __name__ == "__main__":
    main()
