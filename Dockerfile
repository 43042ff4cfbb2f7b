# One image for `up`, `web`, `worker` and `migrate`. What may be written: /var/lib/verisink (a volume) and /tmp.
# The base is pinned by its tag; pin it by digest too where you build:
#   docker build --build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie@sha256:… .
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without a pip of its own: nothing is installed into it later.
RUN python -m venv --without-pip /opt/verisink
COPY requirements.lock /src/
# The lock changes seldom, so that this layer is seldom built. Nothing is compiled, and nothing that is not in the lock
# gets in.
RUN python -m pip --python /opt/verisink/bin/python install --require-hashes --only-binary=:all: --no-compile \
    -r /src/requirements.lock
COPY pyproject.toml README.md LICENSE /src/
COPY migrations /src/migrations
COPY worker /src/worker
COPY web /src/web
# The build backend is in the lock as well; it has no place in what runs. The file system will be read-only, so byte
# code is made here, for good.
RUN python -m pip --python /opt/verisink/bin/python install --no-build-isolation --no-deps --no-compile /src \
    && python -m pip --python /opt/verisink/bin/python uninstall --yes setuptools wheel \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/verisink/lib

FROM ${PYTHON_IMAGE}
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Verisink" \
    org.opencontainers.image.description="Webhook in, verified result out" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# A number that hosts do not use, so that files of this user are nobody else's. The folder of the volume is made here,
# because a fresh volume takes its owner from it.
RUN groupadd --gid 10001 verisink \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/verisink --shell /usr/sbin/nologin verisink \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/verisink
COPY --from=build /opt/verisink /opt/verisink
# No setting that is a secret has a default here: one given as a file would be said to be there twice. The default
# database, `verisink.db`, is in the working folder.
ENV PATH=/opt/verisink/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VERISINK_HOST=0.0.0.0 \
    VERISINK_LOG_FORMAT=json
WORKDIR /var/lib/verisink
VOLUME ["/var/lib/verisink"]
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# For `up` and `web`. A worker has no port: switch this off there.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('VERISINK_PORT') or os.environ.get('PORT') or 8000), timeout=4); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["verisink"]
CMD ["up"]
