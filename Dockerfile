# One image for every service: `fastchat serve --only <service>`, or `fastchat up` for all of them in one container.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements-uv.lock requirements.lock ./
RUN python -m venv /opt/fastchat \
 && /opt/fastchat/bin/pip install --require-hashes -r requirements-uv.lock \
 && /opt/fastchat/bin/uv pip install --no-cache --python /opt/fastchat/bin/python --compile-bytecode \
    --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY gen/python gen/python
COPY kit kit
COPY edge edge
COPY orchestrator orchestrator
COPY knowledge knowledge
COPY memory memory
COPY integration integration
COPY control control
COPY deploy deploy
RUN /opt/fastchat/bin/uv pip install --no-cache --python /opt/fastchat/bin/python --compile-bytecode \
    --no-deps --no-build-isolation . \
 && /opt/fastchat/bin/pip uninstall -y uv

FROM python:3.12-slim-bookworm
# A home that the user owns; a volume mounted here keeps the owner.
RUN groupadd --gid 10001 fastchat \
 && useradd --uid 10001 --gid fastchat --no-create-home --shell /usr/sbin/nologin fastchat \
 && install -d -o fastchat -g fastchat -m 0700 /var/lib/fastchat
COPY --from=build /opt/fastchat /opt/fastchat
ENV PATH=/opt/fastchat/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FASTCHAT_HOME=/var/lib/fastchat \
    FASTCHAT_EDGE__HOST=0.0.0.0 \
    FASTCHAT_EDGE__PARTNER__HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/fastchat
VOLUME /var/lib/fastchat
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["fastchat"]
CMD ["up"]
