// SPDX-License-Identifier: Apache-2.0

//! MODEL to a path: what is not here is found, or fetched, by the Python package.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::fault::{Code, Fault};

/// Prints the path; errors are told on stderr, with an exit code of the package's table.
const PROGRAM: &str = "\
import sys
from vllm.config.model_source import resolve
from vllm.errors import VLLMError
try:
    print(resolve(sys.argv[1]).path)
except VLLMError as error:
    print(error, file=sys.stderr)
    sys.exit(int(error.exit_code))
";

/// Ends with 0 where the package is.
const LOOK: &str = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)";

/// What to do where the interpreter is the wrong one.
const HINT: &str = "set VLLM_RS_PYTHON to the path of the Python that has it, or start the package's own command `vllm-rs`, which does that";

/// That the interpreter is there and has the package, before anything is loaded.
pub fn check_python() -> Result<(), Fault> {
    let python = python();
    let fault = |why: String| {
        Err(Fault::new(
            Code::EngineStart,
            format!("engines need a Python with the package vllm: {why}; {HINT}"),
        ))
    };
    let mut looking = Command::new(&python);
    looking.args(["-c", LOOK]).stdin(Stdio::null());
    match looking.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => fault(format!("{python} does not have it")),
        Err(error) => fault(format!("{python} cannot be run ({error})")),
    }
}

/// The interpreter that has the package: `VLLM_RS_PYTHON`, else `python3`.
pub fn python() -> String {
    std::env::var("VLLM_RS_PYTHON")
        .ok()
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "python3".to_owned())
}

/// A model's directory or GGUF file.
pub fn model(name: &str) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    let python = python();
    let output = Command::new(&python)
        .args(["-c", PROGRAM, name])
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| {
        Fault::new(
            Code::Model,
            format!(
                "model {name:?} is no path, and {python} could not be asked for it: {error}; {HINT}"
            ),
        )
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it did not say why");
        if last.contains("No module named 'vllm'") {
            return Err(Fault::new(
                Code::Model,
                format!(
                    "model {name:?} is no path, and {python} has no package vllm to find it with; {HINT}"
                ),
            ));
        }
        return Err(Fault::new(Code::Model, last));
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}
