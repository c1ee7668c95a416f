"""The command `serve`."""

import gc
from typing import Annotated

import tyro

from sottovoce import terminal
from sottovoce.extras import require
from sottovoce.service.settings import ServiceSettings


def serve(*, settings: Annotated[ServiceSettings, tyro.conf.arg(name="")]) -> None:
    """Enhance recordings for other programs, over HTTP.

    Listens on this machine alone, unless a token is set. Every flag may also be a variable of the environment:
    SOTTOVOCE_PORT is --port, and the flag is the stronger one. Ctrl-C and SIGTERM end the service when what it is
    enhancing is finished.

    Example:
        sottovoce serve
        SOTTOVOCE_TOKEN=$(openssl rand -hex 32) sottovoce serve --host 0.0.0.0 --hosts enhance.example.org
        curl --form file=@interview.wav http://localhost:8000/v1/audio/enhancements -o clear.wav

    Args:
        settings: How the service runs.
    """
    require("serve", "The service")
    from sottovoce.service.logs import logged_as_json
    from sottovoce.service.server import Service

    service = Service(settings)
    # What was loaded stays for good. Looking through it for garbage again and again would hold up live sound for 50 ms.
    gc.collect()
    gc.freeze()
    terminal.say(f"serving at {service.address}; Ctrl-C ends it.", to_stderr=True)
    with logged_as_json():
        service.run()
