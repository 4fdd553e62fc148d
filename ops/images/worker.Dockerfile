# The dialogue worker: Rasa's closed world, without a model (`--target bare`, for one that is fetched by digest) or with
# the one of `make train`.
#   docker build -f ops/images/worker.Dockerfile -t kefu/worker .
# For a release: as in services.Dockerfile.
ARG PYTHON_IMAGE=docker.io/library/python:3.10-slim-bookworm

# Two thirds of the image, which a worker never imports for a model without TensorFlow (ops/decisions/0006). For one with
# DIET or TED: --build-arg LEFT_OUT=pip, which isn't there
ARG LEFT_OUT="tensorflow jaxlib libclang"

FROM ${PYTHON_IMAGE} AS build
ARG LEFT_OUT
WORKDIR /build
COPY ops/requirements/uv.txt ops/requirements/worker.txt ops/images/sbom.py ./
RUN python -m venv /opt/uv && /opt/uv/bin/python -m pip install -q --no-cache-dir --require-hashes -r uv.txt
RUN python -m venv --without-pip /opt/venv \
    && /opt/uv/bin/uv pip sync -q --require-hashes --python /opt/venv/bin/python worker.txt \
    && /opt/uv/bin/uv pip uninstall -q --python /opt/venv/bin/python ${LEFT_OUT}
COPY kefu /app/kefu
COPY credentials.yml endpoints.yml /app/
# -j 0: TensorFlow alone has 10,000 files. Some packages bring files for Pythons that this one isn't: no reason to stop.
RUN python sbom.py worker.txt /app/sbom.json ${LEFT_OUT} \
    && { /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv || true; } \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${PYTHON_IMAGE} AS bare
LABEL org.opencontainers.image.title="kefu-worker" \
      org.opencontainers.image.description="Kefu's dialogue worker on Rasa Open Source 3.6" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "kefu", "worker"]
# Last, for they change with each build: what is above stays cached.
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM bare
COPY models/kefu.tar.gz /app/models/kefu.tar.gz
