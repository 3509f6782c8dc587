// SPDX-License-Identifier: Apache-2.0

//! Placeholder, replaced by its first real commit.
fn main(){}
