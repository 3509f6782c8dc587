// SPDX-License-Identifier: Apache-2.0

//! Writes every target's seeds where libFuzzer looks for them: `FOLDER/TARGET/seed-N`.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(
        env::args_os()
            .nth(1)
            .unwrap_or_else(|| "fuzz/corpus".into()),
    );
    for target in vllm_fuzzing::TARGETS {
        let folder = root.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
