//! The server over a real socket: who may ask, limits, and texts that are given up.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod limits;
mod page;
mod plan;
mod work;
