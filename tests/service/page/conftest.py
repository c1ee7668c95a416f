"""A service with the bundled models, and Chromium, which looks at its page."""

import shutil

import pytest

from ..calls import serving

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` has")

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
TIMEOUT_MS = 60_000


@pytest.fixture(scope="session")
def page_service(tmp_path_factory):
    """A service that takes recordings of half a minute."""
    with serving(folder=tmp_path_factory.mktemp("page") / "state", workers=1, max_minutes=0.5) as service:
        yield service


# Of a file of tests, not of the session: as long as it is there, no other test of this process runs an event loop.
@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `.ci/system-packages.sh chromium` installs it on Debian")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_service):
    """Opens the page in a context of its own, and fails if it writes errors or loads anything from elsewhere."""
    contexts = []
    complaints = []

    def open_(path="/", *, address=page_service.address, **options):
        context = browser.new_context(reduced_motion="reduce", **options)  # colours are what they will be
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if is_foreign(request.url) else None)
        page.on("console", lambda message: complaints.append(message.text) if is_violation(message) else None)
        page.goto(f"{address}{path}")
        return page

    def is_foreign(url):
        return not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:"))

    def is_violation(message):
        return message.type == "error" and "Content Security Policy" in message.text

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
