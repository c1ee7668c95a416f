# syntax=docker/dockerfile:1
# The service: docker build -t sottovoce . && docker run -e SOTTOVOCE_TOKEN=... -p 8000:8000 sottovoce
# See docs/deployment.md.

# Debian's own Python: a quarter smaller than the image `python:slim`, and with security updates for as long.
FROM debian:bookworm-slim AS python
# Whatever version has the latest security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv binutils \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY src src
RUN python3 -m venv /opt/sottovoce \
    && /opt/sottovoce/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[serve,av]"
# What no service runs: tests, tools that convert models, the library for programs in C, symbols for debuggers, and pip.
RUN /opt/sottovoce/bin/pip uninstall --yes pip setuptools \
    && find /opt/sottovoce/lib -type d \( -name tests -o -path '*/onnxruntime/transformers' \
        -o -path '*/onnxruntime/quantization' -o -path '*/onnxruntime/tools' \) -prune -exec rm -rf {} + \
    && rm /opt/sottovoce/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.* \
    && find /opt/sottovoce/lib/python3*/site-packages/av -name '*.so' -exec strip --strip-unneeded {} +

FROM python
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
