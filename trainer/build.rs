//! Checks the libtorch to build against, compiles the shim, and lets the binary find it again.
//!
//! tch 0.24 calls functions of exactly libtorch 2.11.0; any other version
//! fails much later with an undefined symbol, so the version is read here.

use std::path::Path;

const TORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    let Ok(libtorch) = std::env::var("LIBTORCH") else {
        return; // torch-sys's own build script has said what is missing
    };
    let version_file = Path::new(&libtorch).join("version.py");
    println!("cargo:rerun-if-changed={}", version_file.display());
    if let Ok(text) = std::fs::read_to_string(&version_file) {
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("__version__ = "))
            .map(|value| value.trim_matches(['\'', '"', ' ']))
            .unwrap_or("unknown");
        let plain = version.split('+').next().unwrap_or(version);
        assert!(
            plain == TORCH_VERSION,
            "LIBTORCH={libtorch} holds torch {version}; pgclip-train needs exactly {TORCH_VERSION} \
             (`make trainer` fetches it)"
        );
    }
    println!("cargo:rerun-if-changed=src/shim.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(Path::new(&libtorch).join("include"))
        .file("src/shim.cpp")
        .compile("pgclip_shim");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
