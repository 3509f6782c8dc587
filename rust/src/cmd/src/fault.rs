// SPDX-License-Identifier: Apache-2.0

//! What ends the process: one line and an exit code, the same codes as the Python package's.

use std::fmt;

/// Exit codes. A second signal gives 128 + its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A bug: the log has more.
    Internal = 1,
    /// A flag or environment variable.
    Usage = 2,
    /// The model is missing, incomplete, damaged or not supported.
    Model = 3,
    /// A socket could not be opened.
    Address = 4,
    /// The engine could not start.
    EngineStart = 6,
    /// The frontend could not start.
    FrontendStart = 7,
    /// An engine ended while serving.
    EngineDied = 8,
}

impl Code {
    /// The code of a child that already told its cause.
    pub fn told(code: i32) -> Option<Self> {
        let told = [
            Self::Usage,
            Self::Model,
            Self::Address,
            Self::EngineStart,
            Self::FrontendStart,
            Self::EngineDied,
        ];
        told.into_iter().find(|known| *known as i32 == code)
    }
}

/// A failure for the user: one line that names what failed, the value, the limit and what to do.
#[derive(Debug)]
pub struct Fault {
    /// Exit code.
    pub code: Code,
    message: String,
}

impl Fault {
    /// A failure.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A flag or variable that cannot be used.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message.replace('\n', " "))
    }
}
