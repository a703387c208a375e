# or1lab with its GPU dependencies; models, data and runs stay outside. Not built by CI: see docs/scale.md.
FROM python:3.12-slim
# gcc: Triton compiles its launchers; bubblewrap: the sandbox in which programs are judged.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /or1lab
COPY requirements/gpu.lock requirements/gpu.lock
RUN python -m venv .venv && .venv/bin/python -m pip install --no-cache-dir --no-deps -r requirements/gpu.lock
COPY . .
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation --editable .
ENV PATH=/or1lab/.venv/bin:$PATH
ENTRYPOINT ["or1lab"]
