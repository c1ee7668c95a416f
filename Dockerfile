# syntax=docker/dockerfile:1
# The service: docker build -t sottovoce . && docker run -e SOTTOVOCE_TOKEN=... -p 8000:8000 sottovoce
# See docs/deployment.md.

FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY src src
# Modules are compiled here, since the image is read only where it runs. Nothing is installed there, so pip goes.
RUN python -m venv /opt/sottovoce \
    && /opt/sottovoce/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[serve,av]" \
    && /opt/sottovoce/bin/pip uninstall --yes pip

FROM python:3.12-slim
COPY --from=build /opt/sottovoce /opt/sottovoce
RUN install --directory --mode=0700 --owner=10001 --group=10001 /var/lib/sottovoce
USER 10001:10001
ENV PATH=/opt/sottovoce/bin:$PATH \
    SOTTOVOCE_HOST=0.0.0.0 \
    SOTTOVOCE_PORT=8000 \
    SOTTOVOCE_FOLDER=/var/lib/sottovoce
VOLUME /var/lib/sottovoce
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"SOTTOVOCE_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["sottovoce", "serve"]
