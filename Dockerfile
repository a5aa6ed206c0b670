# Two images of one build. `docker build .` makes `sidecar`, which asks a Cerbos beside it; `docker build --target standalone .`
# makes one that runs a Cerbos of its own. With podman or buildah say `--format docker`, or the health check is left out.
ARG PYTHON=docker.io/library/python:3.11-slim@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93
ARG CERBOS=ghcr.io/cerbos/cerbos:0.55.0@sha256:4b9d3b58c4f11c1b8953bc798d8d086e64f276882253ab169625fddc7f432515

FROM ${CERBOS} AS cerbos

FROM ${PYTHON} AS dependencies
# a mirror of PyPI, where there is one: --build-arg PIP_INDEX_URL=https://...
ARG PIP_INDEX_URL
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# --no-deps: the locks name everything, and what they do not name is not wanted
RUN python -m venv --without-pip /opt/sidecar \
 && python -m venv --without-pip /opt/build \
 && pip="python -m pip --disable-pip-version-check" \
 && install="install --quiet --no-cache-dir --no-deps --require-hashes --only-binary :all:" \
 && $pip --python /opt/build/bin/python $install --no-compile -r requirements-build.lock \
 && $pip --python /opt/sidecar/bin/python $install -r requirements.lock

FROM dependencies AS build
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /dist \
 && python -m pip --disable-pip-version-check --python /opt/sidecar/bin/python install --quiet --no-cache-dir --no-deps --no-index \
      --prefix /package /dist/*.whl

FROM ${PYTHON} AS runtime
# what seldom changes comes first, so that a new version of the sidecar is a layer of its own
COPY --from=dependencies /opt/sidecar /opt/sidecar
# nothing that installs software stays
RUN find / -xdev \( -path '*-packages/pip' -o -path '*-packages/pip-*' -o -path '*-packages/setuptools*' \
      -o -path '*-packages/pkg_resources' -o -path '*-packages/_distutils_hack' -o -path '*-packages/distutils-precedence.pth' \
      -o -path '*-packages/wheel' -o -path '*-packages/wheel-*' -o -path '*/python3*/ensurepip' \
      -o -path '/usr/share/python-wheels' -o -path '*/bin/pip*' -o -path '*/bin/wheel' \) -prune -exec rm -rf {} + \
 && mkdir /etc/sidecar
ENV PATH=/opt/sidecar/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SIDECAR_ROUTES=/etc/sidecar/routes.yaml \
    SIDECAR_POLICIES=/etc/sidecar/policies
ARG PYTHON
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="authorization-sidecar" \
      org.opencontainers.image.description="A reverse-proxy authorization sidecar: Cognito says who, routes.yaml says what, Cerbos says yes or no." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON}"
WORKDIR /etc/sidecar
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["python", "-I", "-m", "sidecar.health"]
ENTRYPOINT ["sidecar"]
CMD ["run"]
COPY --from=build /package /opt/sidecar
# The import compiles what a start needs of the standard library, which slim images ship without bytecode and a read-only
# file system could never keep.
RUN PYTHONDONTWRITEBYTECODE= python -c "import sidecar.cli, sidecar.health, sidecar.run.workers, sidecar.record.exposition, sidecar.doors.relay"
# a number, so that Kubernetes can see that it is not root (runAsNonRoot)
USER 65532:65532

FROM runtime AS standalone
COPY --from=cerbos /cerbos /usr/local/bin/cerbos
ENV SIDECAR_CERBOS=embedded

FROM runtime AS sidecar
ENV SIDECAR_CERBOS=127.0.0.1:3593
