# The image of cypheron-edge: the binary, what it is linked to, certificates, and
# nothing else. No shell, no package manager; a user without a name elsewhere.
#
# To pin what it is made from: --build-arg RUST_IMAGE=docker.io/library/rust@sha256:...
ARG RUST_IMAGE=docker.io/library/rust:1-bookworm

FROM ${RUST_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
ENV SQLX_OFFLINE=true
# Where it was built is in no message and no digest.
ENV RUSTFLAGS="--remap-path-prefix=/build=/cypheron-edge --remap-path-prefix=/usr/local/cargo=/cargo"
ARG PROFILE=release

# The dependencies alone, which change seldom: over a crate with nothing in it.
COPY Cargo.toml Cargo.lock ./
COPY loadtest/Cargo.toml loadtest/
RUN mkdir -p src benches examples loadtest/src \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cp src/main.rs loadtest/src/ \
    && sed -n '/^\[\[bench\]\]/{n;s/name = "\(.*\)"/\1/p}' Cargo.toml | while read -r name; do cp src/main.rs "benches/$name.rs"; done \
    && sed -n '/^\[\[example\]\]/{n;s/name = "\(.*\)"/\1/p}' Cargo.toml | while read -r name; do cp src/main.rs "examples/$name.rs"; done \
    && cargo build --locked --profile "$PROFILE" --all-features --bin cypheron-edge

COPY . .
ARG COMMIT=
RUN touch src/lib.rs src/main.rs \
    && CYPHERON_EDGE_COMMIT="$COMMIT" cargo build --locked --profile "$PROFILE" --all-features --bin cypheron-edge

# The file system of the image. What dpkg knows of the libraries goes with them, so
# that a scanner can tell their versions.
RUN mkdir -p /image/usr/local/bin /image/etc/ssl/certs /image/usr/share/licenses/cypheron-edge /image/var/lib/dpkg/status.d \
    && cp "target/$PROFILE/cypheron-edge" /image/usr/local/bin/ \
    && ldd "target/$PROFILE/cypheron-edge" | grep -o '/[^ ]*' | sort -u | xargs cp --parents --dereference --target-directory=/image \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && cp LICENSE /image/usr/share/licenses/cypheron-edge/ \
    && cp /etc/os-release /image/etc/ \
    && for package in libc6 libgcc-s1 ca-certificates; do dpkg --status "$package" >"/image/var/lib/dpkg/status.d/$package"; done \
    && echo 'edge:x:65532:65532::/var/lib/cypheron-edge:/nonexistent' >/image/etc/passwd \
    && echo 'edge:x:65532:' >/image/etc/group \
    && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
    && install -d --mode=1777 /image/tmp \
    && install -d --mode=0700 --owner=65532 --group=65532 /image/var/lib/cypheron-edge

FROM scratch
ARG VERSION=0.1.0
ARG COMMIT=
LABEL org.opencontainers.image.title="cypheron-edge" \
      org.opencontainers.image.description="An edge authentication proxy for API keys" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /image/ /

USER 65532:65532
# Data go to /var/lib/cypheron-edge: the journal, which is to outlive the container.
ENV XDG_DATA_HOME=/var/lib \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
VOLUME /var/lib/cypheron-edge
EXPOSE 8080 9902
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["/usr/local/bin/cypheron-edge", "health", "--ready"]
ENTRYPOINT ["/usr/local/bin/cypheron-edge"]
CMD ["serve"]
