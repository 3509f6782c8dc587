// SPDX-License-Identifier: Apache-2.0

//! Placeholder crate root, replaced by its first real commit.
