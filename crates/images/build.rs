//! Compiles the program of the image `corten/hello` with one call of rustc. No cargo, no network, no other program than
//! the linker that builds everything else.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "hello/main.rs";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"));
    let output = Path::new(&variable("OUT_DIR")?).join("hello");
    let mut rustc = Command::new(variable("RUSTC")?);
    // The same bytes wherever the source lies: its path is relative, and nothing of the environment goes in.
    rustc.args(["--crate-name", "hello", "--crate-type", "bin", "--edition", "2024", "-O", "--target"]);
    rustc.arg(variable("TARGET")?);
    for option in CODEGEN {
        rustc.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let status = rustc.arg("-o").arg(&output).arg(SOURCE).status()?;
    if !status.success() {
        return Err(format!("compiling {SOURCE}: {status}").into());
    }
    Ok(())
}

/// One static executable at a fixed address, as small as the standard library allows.
const CODEGEN: [&str; 4] = ["target-feature=+crt-static", "relocation-model=static", "panic=abort", "strip=symbols"];
