# Two images of popq from the same sources: `io` (all but training and scoring) and `gpu` (with torch).
#   docker build --target io -t popq:io .
#   docker build --target gpu -t popq:gpu .
# Each installs exactly what its lock names, checked by hash; `make lock` makes the locks together.

FROM python:3.12-slim AS base
RUN useradd --create-home --uid 10001 popq && install -d -o popq -g popq /data
ENV PYTHONPATH=/popq PYTHONUNBUFFERED=1 POPQ_DATA_DIR=/data
WORKDIR /home/popq
ENTRYPOINT ["python", "-m", "popq"]
# Of a worker: it has said in the catalogue that it is there. Other commands need no such check.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
    CMD ["python", "-m", "popq", "worker", "--check"]

FROM base AS io
COPY requirements-io.lock /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements-io.lock
COPY migrations /popq/migrations
COPY popq /popq/popq
USER popq

FROM base AS gpu
COPY requirements-gpu.lock /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements-gpu.lock
COPY migrations /popq/migrations
COPY popq /popq/popq
USER popq
