//! Compiles the `.proto` files with protox, so that no `protoc` has to be installed.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 5] = [
    "cri-v1.proto",
    "coracle-node-v1.proto",
    "csi-v1.proto",
    "device-plugin-v1beta1.proto",
    "plugin-registration-v1.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().codec_path("crate::codec::Codec").compile_fds(descriptors)?;
    Ok(())
}
