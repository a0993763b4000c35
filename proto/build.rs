//! Compiles the `.proto` files with protox, so that no protoc has to be installed.

use std::path::{Path, PathBuf};

const FILES: [&str; 5] = [
    "antipode/trunk/v1/trunk.proto",
    "antipode/registry/v1/registry.proto",
    "antipode/steering/v1/steering.proto",
    "antipode/handover/v1/handover.proto",
    "antipode/handover/v1/takeover.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(FILES, [root])?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let encoded = prost_descriptors(&descriptors);
    std::fs::write(out.join("descriptors.bin"), encoded)?;

    tonic_prost_build::configure()
        .bytes(".")
        .boxed(".antipode.trunk.v1.Segment.body.request")
        .boxed(".antipode.trunk.v1.Segment.body.response")
        .boxed(".antipode.trunk.v1.Segment.body.end")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The descriptor set that gRPC reflection serves.
fn prost_descriptors(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
