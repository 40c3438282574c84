//! Finds liboscar, or builds it:
//!   1. OSCAR_LIB_DIR   the directory with liboscar.so or liboscar.a; OSCAR_STATIC=1 takes the latter
//!   2. feature `vendored`   builds the sources in `liboscar/` by CMake, and links them statically
//!   3. pkg-config      package `oscar`

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["OSCAR_LIB_DIR", "OSCAR_STATIC", "DOCS_RS"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if env::var_os("DOCS_RS").is_some() {
        return; // documentation needs no library
    }
    if let Err(error) = link() {
        eprintln!("oscar-sys: {error}");
        std::process::exit(1);
    }
}

fn link() -> Result<(), Box<dyn Error>> {
    if let Some(dir) = env::var_os("OSCAR_LIB_DIR") {
        return link_directory(Path::new(&dir));
    }
    if env::var_os("CARGO_FEATURE_VENDORED").is_some() {
        return build_from_source();
    }
    pkg_config::Config::new().range_version("0.1".."0.2").probe("oscar").map(|_| ()).map_err(|error| {
        format!(
            "liboscar was not found. Install it (pkg-config must find `oscar`; PKG_CONFIG_PATH helps), or set \
                 OSCAR_LIB_DIR to the directory with liboscar.so, or use feature `vendored`.\n{error}"
        )
        .into()
    })
}

fn link_directory(dir: &Path) -> Result<(), Box<dyn Error>> {
    let is_static = env::var("OSCAR_STATIC").map_or(false, |value| value == "1");
    let file = if is_static { "liboscar.a" } else { "liboscar.so" };
    let path = dir.join(file);
    if !path.exists() {
        return Err(format!("OSCAR_LIB_DIR is {}, which has no {file}", dir.display()).into());
    }
    // Its users could otherwise be left linked to a library that is no longer there.
    println!("cargo:rerun-if-changed={}", path.display());
    println!("cargo:rustc-link-search=native={}", dir.display());
    if is_static {
        link_static();
    } else {
        println!("cargo:rustc-link-lib=dylib=oscar");
    }
    println!("cargo:lib_dir={}", dir.display());
    Ok(())
}

fn link_static() {
    println!("cargo:rustc-link-lib=static=oscar");
    println!("cargo:rustc-link-lib=dylib=stdc++");
    println!("cargo:rustc-link-lib=dylib=m");
}

fn build_from_source() -> Result<(), Box<dyn Error>> {
    let source = Path::new(&required("CARGO_MANIFEST_DIR")?).join("liboscar");
    let build = PathBuf::from(required("OUT_DIR")?).join("build");
    for name in ["CMakeLists.txt", "cmake", "include", "pkgconfig", "src"] {
        println!("cargo:rerun-if-changed={}", source.join(name).display());
    }
    println!("cargo:rerun-if-env-changed=CMAKE");
    let cmake = env::var_os("CMAKE").unwrap_or_else(|| "cmake".into());
    // Optimized also in a debug build of Rust: a debug build of the kernels is of no use to anybody but their authors.
    run(Command::new(&cmake).arg("-S").arg(&source).arg("-B").arg(&build).args([
        "-DCMAKE_BUILD_TYPE=Release",
        "-DOSCAR_BUILD_TESTS=OFF",
        "-DOSCAR_BUILD_EXAMPLES=OFF",
    ]))?;
    run(Command::new(&cmake)
        .arg("--build")
        .arg(&build)
        .args(["--target", "oscar_static", "--parallel"])
        .arg(env::var("NUM_JOBS").unwrap_or_else(|_| "1".into())))?;
    println!("cargo:rustc-link-search=native={}", build.display());
    link_static();
    println!("cargo:lib_dir={}", build.display());
    Ok(())
}

fn required(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|_| format!("{name} is not set: cargo sets it for build scripts").into())
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status().map_err(|error| {
        format!("{:?} cannot be run: {error}. Feature `vendored` needs CMake", command.get_program())
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "{command:?} failed ({status}). Feature `vendored` needs CMake 3.25, a C++20 compiler and Eigen 3 \
             (on Debian: cmake g++ libeigen3-dev)"
        )
        .into())
    }
}
