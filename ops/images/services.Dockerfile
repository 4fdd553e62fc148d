# Gateway, action server, topics' job, operators' tools and demo shop; which one, the command says.
#   docker build -f ops/images/services.Dockerfile -t kefu/services .
# For a release: --build-arg PYTHON_IMAGE=...@sha256:..., --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct),
# --build-arg VERSION=0.2.0, --build-arg REVISION=$(git rev-parse HEAD), --sbom=true. tests/chart/test_images.py runs every
# step without Docker.
ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY ops/requirements/uv.txt ops/requirements/services.txt ops/images/sbom.py ./
RUN python -m venv /opt/uv && /opt/uv/bin/python -m pip install -q --no-cache-dir --require-hashes -r uv.txt
RUN python -m venv --without-pip /opt/venv \
    && /opt/uv/bin/uv pip sync -q --require-hashes --python /opt/venv/bin/python services.txt
COPY kefu /app/kefu
COPY actions /app/actions
COPY ops/__init__.py /app/ops/__init__.py
COPY ops/local/__init__.py /app/ops/local/__init__.py
COPY ops/local/shop /app/ops/local/shop
# No byte code of the build's own: it holds the time at which the build ran. Compiled by content instead, all at once.
RUN python sbom.py services.txt /app/sbom.json \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app /opt/venv

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="kefu-services" \
      org.opencontainers.image.description="Kefu's gateway, action server and tools" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# Nothing is written into the image's own file system; HOME and TMPDIR lie where a volume is mounted.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "kefu", "gateway"]
# Last, for they change with each build: what is above stays cached.
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
