// SPDX-License-Identifier: Apache-2.0

//! The worked examples of the wire's specification, its tolerance rules, and hostile input.

mod broken;
mod control;
mod hostile;
mod messages;
mod outputs;
mod requests;
