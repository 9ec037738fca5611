# syntax=docker/dockerfile:1
# The command line as an image, from the wheel. docs/install.md has the commands.
FROM python:3.13-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY man man
COPY gemini_batch gemini_batch
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
# Further extras, as in: docker build --build-arg EXTRAS='[vertex]' .
ARG EXTRAS=""
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --root-user-action=ignore "$(echo /wheels/*.whl)${EXTRAS}"
# Any user may run it (docker run --user), so that files belong to who started it. What was used of the
# quota is in /state: without a volume there, each new container forgets it.
RUN useradd --create-home --uid 1000 gemini-batch \
    && install --directory --mode=1777 /work /state
ENV GEMINI_BATCH_STATE_DIR=/state \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
VOLUME ["/work", "/state"]
ENTRYPOINT ["gemini-batch"]
CMD ["--help"]
