//! What takes the place of `remote` in a build without the feature `rpc`.

use std::net::TcpListener;

use super::device::Device;
use crate::error::{Error, Result};

fn absent() -> Error {
    Error::Unsupported("devices of other machines, in a build without the feature rpc".to_owned())
}

pub(super) fn devices(_address: &str) -> Result<Vec<Device>> {
    Err(absent())
}

pub(super) fn any_lost() -> bool {
    false
}

#[expect(clippy::unnecessary_wraps, reason = "as the other")]
pub(super) fn check(_device: Device) -> Result<()> {
    Ok(())
}

pub(super) fn serve(_listener: TcpListener, _device: Device, _threads: usize) -> Result<()> {
    Err(absent())
}
