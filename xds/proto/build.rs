//! Generates Rust from `descriptors.bin`. Needs no `protoc`.

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=descriptors.bin");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = FileDescriptorSet::decode(std::fs::read("descriptors.bin")?.as_slice())?;

    let mut config = tonic_prost_build::Config::new();
    config
        // Ordered maps make the encoding deterministic.
        .btree_map(["."])
        // Encoded resources are cloned into many responses: `Bytes` makes that cheap.
        .bytes([".google.protobuf.Any"])
        .enable_type_names()
        // `Any` and its kind are ours, so that `Any.value` can be `Bytes`.
        .compile_well_known_types()
        .disable_comments(["."])
        // Their `Debug` would print key material; src/redact.rs writes one that does not.
        .skip_debug([
            ".google.protobuf.Any",
            ".envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
            ".envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys",
            ".envoy.extensions.transport_sockets.tls.v3.GenericSecret",
        ])
        .include_file("envoy_api.rs");
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .compile_well_known_types(true)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
