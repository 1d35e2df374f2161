//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    // The static program of the images relocates itself: in this form that takes some kilobytes instead of more than a megabyte,
    // and the operator's image has at most 30 MB. A dynamic one would need a loader that knows it (glibc 2.36).
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
