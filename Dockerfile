# The server in an image of its own: no shell, no package manager, not as root.
#
#   docker build --tag longwire .
#   docker run --publish 9001:9001 --security-opt seccomp=contrib/docker/seccomp.json \
#     --ulimit nofile=1048576 --stop-timeout 45 longwire
#
# docs/OPERATING.md says why each of these flags is there; tests/run-image builds and runs it.

# That of the C library in the last stage, and of Rust as it was tested.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY . .
# Names of functions stay, for the backtrace of a panic; the rest of the symbols is half of the file.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN cargo build --release --locked --bin longwire

# glibc, libgcc, libm, and the certificates by which a broker over TLS is verified.
FROM ${BASE_IMAGE}
COPY --from=build /build/target/release/longwire /usr/bin/longwire
# By number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 9001
# Drains: connections are told to come back, one after another.
STOPSIGNAL SIGTERM
# There is no HEALTHCHECK: it would need a client in the image. /healthz of either port and /readyz of
# the administration port are for whoever runs the container.
ENTRYPOINT ["/usr/bin/longwire"]
# The administration port is of the container alone; from outside it needs LONGWIRE_ADMIN_TOKEN and
# --admin 0.0.0.0:9002.
CMD ["serve", "--listen", "0.0.0.0:9001"]
