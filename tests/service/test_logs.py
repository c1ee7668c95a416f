"""Lines of JSON, whatever is said."""

import json
import logging

from sottovoce.service.logs import logged_as_json


def test_every_message_is_a_line_of_json(capsys):
    log = logging.getLogger("sottovoce.service.test")
    before = logging.getLogger("sottovoce").handlers
    with logged_as_json():
        log.info('two\nlines and a "quote" of %s', "anyone", extra={"fields": {"seconds": 0.5}})
        try:
            raise ValueError("at fault")
        except ValueError:
            log.exception("it failed")
        log.debug("not said")
        logging.getLogger("python_multipart").warning("what a client sent")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["message"], first["seconds"]) == ("info", 'two\nlines and a "quote" of anyone', 0.5)
    assert first["time"].endswith("Z")
    assert second["level"] == "error"
    assert second["exception"].endswith("ValueError: at fault")
    assert logging.getLogger("sottovoce").handlers == before
