//! What takes the place of `remote` in a build without the feature `rpc`.

use std::net::TcpListener;
use std::ptr::NonNull;

use super::sys;
use crate::error::{Error, Result};

/// A device as ggml knows it.
#[derive(Clone, Copy)]
pub(super) struct RawDevice(pub(super) NonNull<sys::ggml_backend_device>);

fn absent() -> Error {
    Error::Unsupported("devices of other machines, in a build without the feature rpc".to_owned())
}

pub(super) fn devices(_address: &str) -> Result<Vec<RawDevice>> {
    Err(absent())
}

pub(super) fn any_lost() -> bool {
    false
}

#[expect(clippy::unnecessary_wraps, reason = "as the other")]
pub(super) fn check(_device: RawDevice) -> Result<()> {
    Ok(())
}

pub(super) fn serve(_listener: TcpListener, _device: RawDevice, _threads: usize) -> Result<()> {
    Err(absent())
}
