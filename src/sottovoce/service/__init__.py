"""Enhancement over HTTP: `sottovoce serve`. Needs the extra `serve`."""
