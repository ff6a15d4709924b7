# syntax=docker/dockerfile:1
#
#   docker build -t vestibule .
#   vestibule init --dir conf     # or by hand: vestibule.yaml, policies/, secrets/
#   chown -R 65532 conf           # the image's user reads it; secrets have mode 0600
#   docker run -p 8080:8080 -v ./conf:/etc/vestibule:ro \
#     -v vestibule-state:/var/lib/vestibule/state -v vestibule-keys:/var/lib/vestibule/keys vestibule
#
# In the configuration: `state: /var/lib/vestibule/state`, `keys: /var/lib/vestibule/keys`, `listen: 0.0.0.0:8080`.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist && cp target/dist/vestibule /vestibule
# the state directory, as the image's user will own it
RUN install -d -m 0700 -o 65532 -g 65532 /state/state /state/keys

# glibc, libgcc and certificate authorities; no shell
FROM gcr.io/distroless/cc-debian12
COPY --from=build /vestibule /vestibule
COPY --from=build --chown=65532:65532 --chmod=0700 /state /var/lib/vestibule
USER 65532:65532
VOLUME ["/var/lib/vestibule/state", "/var/lib/vestibule/keys"]
EXPOSE 8080
ENTRYPOINT ["/vestibule"]
CMD ["run", "-c", "/etc/vestibule/vestibule.yaml"]
