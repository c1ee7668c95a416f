"""Makes what the documentation shows: a really noisy recording before and after the bundled model, and the page.

python recipes/prepare_docs.py

The page is that of `sottovoce serve`, in Chromium.
"""

import shutil
import tempfile
import threading
from pathlib import Path

import soundfile

import sottovoce
from sottovoce.metrics import plots
from sottovoce.service.server import Service
from sottovoce.service.settings import ServiceSettings

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "examples" / "real" / "2609-156975-0004.flac"


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
    with tempfile.TemporaryDirectory() as state:
        service = Service(ServiceSettings(port=0, workers=1, folder=Path(state)))
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            take_pictures(service.address, ROOT / "docs" / "images")
        finally:
            service.stop()
            thread.join()


def take_pictures(address: str, folder: Path) -> None:
    """Take pictures of the page with a result.

    Args:
        address: Of the service.
        folder: Where they go.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, scheme, width in (("page", "light", 1080), ("page_phone", "dark", 360)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
            page.set_default_timeout(120_000)
            page.goto(address)
            page.set_input_files("input[type=file]", RECORDING)
            page.locator(".lane:nth-child(3)[aria-busy=false]").wait_for()
            page.locator(".seek").fill("4.5")
            page.locator(".seek").blur()
            page.screenshot(path=folder / f"{name}.jpg", type="jpeg", quality=75, full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
