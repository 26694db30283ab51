//! Writes the text of every build into a directory, its macros on top, and prints their names: what the tool in
//! `kernels/cuda` compiles.
//!
//! `cargo run -p otedama-kernels --example texts -- DIRECTORY`

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let directory = env::args().nth(1).ok_or_else(|| io::Error::other("expected a directory to write to"))?;
    for build in otedama_kernels::BUILDS {
        let defines: String =
            build.defines.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect();
        let text = defines + &build.source.text();
        fs::write(Path::new(&directory).join(format!("{}.cu", build.name)), text)?;
        let template = build.source == otedama_kernels::KAWPOW_TEMPLATE;
        let how = if template {
            "template"
        } else if build.embedded {
            "embedded"
        } else {
            "compiled"
        };
        println!("{} {how}", build.name);
    }
    Ok(())
}
