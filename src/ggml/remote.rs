//! Devices of other machines, through ggml's RPC.
//!
//! ggml ends the process when nothing answers at an address, or something else than an RPC server.
//! So the first messages are exchanged here, and only then does ggml get the address.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::device::Device;
use super::sys;
use crate::error::{Error, Result};

/// ggml's name of the backend.
const REGISTRY: &CStr = c"RPC";

/// How long another machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The version of the conversation that ggml 0.28 has: `RPC_PROTO_MAJOR_VERSION` and `_MINOR_`.
const PROTOCOL: (u8, u8) = (8, 0);
/// `RPC_CMD_HELLO`.
const HELLO: u8 = 14;
/// `RPC_CONN_CAPS_SIZE`: what the two sides can do, of which this one says nothing.
const CAPABILITIES: usize = 24;

type AddServer = unsafe extern "C" fn(*const c_char) -> *mut sys::ggml_backend_reg;

/// Whether this build has the backend.
pub(super) fn is_compiled() -> bool {
    // SAFETY: a look-up in the registry; the name ends in NUL.
    !unsafe { sys::ggml_backend_reg_by_name(REGISTRY.as_ptr()) }.is_null()
}

/// The backend's function called `name`.
pub(super) fn function(name: &CStr) -> Result<*mut std::ffi::c_void> {
    // SAFETY: look-ups by names that end in NUL; the registry lives as long as the process.
    let function = unsafe {
        let registry = sys::ggml_backend_reg_by_name(REGISTRY.as_ptr());
        if registry.is_null() {
            std::ptr::null_mut()
        } else {
            sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
        }
    };
    if function.is_null() {
        return Err(Error::Unsupported(
            "devices of other machines, in a build without the feature rpc".to_owned(),
        ));
    }
    Ok(function)
}

/// Every device that the worker at `address` (`HOST:PORT`) serves.
///
/// # Errors
/// [`Error::Unsupported`] without the feature; [`Error::Argument`] for an address that is none;
/// [`Error::Ggml`] when no worker of this version answers there.
pub(super) fn devices(address: &str) -> Result<Vec<Device>> {
    let add_server = function(c"ggml_backend_rpc_add_server")?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(devices) = known.get(address) {
        // A worker talks to one client at a time, and may be talking to this process.
        reach(address)?;
        return Ok(devices.clone());
    }
    let resolved = greet(address)?;
    let endpoint = CString::new(resolved.to_string())
        .map_err(|_| Error::Argument(format!("{address:?} is no address")))?;
    // SAFETY: ggml documents the function of this name to have this type.
    let add_server: AddServer = unsafe { std::mem::transmute(add_server) };
    // SAFETY: the text ends in NUL and is copied. What comes back lives as long as the process.
    let devices = unsafe {
        let registry = add_server(endpoint.as_ptr());
        if registry.is_null() {
            Vec::new()
        } else {
            (0..sys::ggml_backend_reg_dev_count(registry))
                .filter_map(|index| {
                    Device::from_raw(sys::ggml_backend_reg_dev_get(registry, index))
                })
                .collect()
        }
    };
    if devices.is_empty() {
        return Err(failure(address, "it serves no device"));
    }
    known.insert(address.to_owned(), devices.clone());
    Ok(devices)
}

/// The devices of every worker that was greeted.
static KNOWN: Mutex<BTreeMap<String, Vec<Device>>> = Mutex::new(BTreeMap::new());

/// The socket addresses of `address`, of the only family that ggml connects to.
fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    let mut places: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| {
            Error::Argument(format!(
                "rpc://{address}: expected rpc://HOST:PORT, found no such place: {error}"
            ))
        })?
        .collect();
    places.retain(SocketAddr::is_ipv4);
    Ok(places)
}

/// Checks that somebody listens at `address`.
fn reach(address: &str) -> Result<()> {
    let places = resolve(address)?;
    let reached = |place: &SocketAddr| TcpStream::connect_timeout(place, PATIENCE).is_ok();
    if places.iter().any(reached) {
        return Ok(());
    }
    Err(failure(address, "nobody listens there any more"))
}

/// Checks that a worker of this version answers at `address`. Returns where it was found.
fn greet(address: &str) -> Result<SocketAddr> {
    let mut problem = "it has no IPv4 address".to_owned();
    for candidate in resolve(address)? {
        match converse(candidate) {
            Ok((major, minor)) if major == PROTOCOL.0 && minor <= PROTOCOL.1 => {
                return Ok(candidate);
            }
            Ok((major, minor)) => {
                problem = format!(
                    "expected RPC version {}.{}, found {major}.{minor}; both machines need the \
                     same ggml",
                    PROTOCOL.0, PROTOCOL.1
                );
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                "no answer; it may be at work for somebody else".clone_into(&mut problem);
            }
            Err(error) => problem = error.to_string(),
        }
    }
    Err(failure(address, &problem))
}

fn failure(address: &str, problem: &str) -> Error {
    Error::Ggml {
        operation: "remote device",
        message: format!(
            "rpc://{address}: expected a worker (gpt2 worker on that machine), found none that \
             can be used: {problem}"
        ),
    }
}

/// Says hello and gives the version that is answered.
fn converse(address: SocketAddr) -> std::io::Result<(u8, u8)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Command, length, payload.
    let mut hello = vec![HELLO];
    hello.extend((CAPABILITIES as u64).to_ne_bytes());
    hello.extend([0; CAPABILITIES]);
    stream.write_all(&hello)?;
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let mut answer = [0; 4 + CAPABILITIES];
    if u64::from_ne_bytes(length) != answer.len() as u64 {
        return Err(std::io::Error::other("it speaks another protocol"));
    }
    stream.read_exact(&mut answer)?;
    Ok((answer[0], answer[1]))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that reads a hello and answers with `answer`.
    fn answering(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 9 + CAPABILITIES];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(&answer).unwrap();
        });
        address
    }

    fn version(major: u8, minor: u8) -> Vec<u8> {
        let mut answer = vec![0; 4 + CAPABILITIES];
        (answer[0], answer[1]) = (major, minor);
        let mut framed = (answer.len() as u64).to_ne_bytes().to_vec();
        framed.extend(answer);
        framed
    }

    #[test]
    fn a_worker_of_this_version_is_found() {
        let address = answering(version(PROTOCOL.0, PROTOCOL.1));
        assert_eq!(greet(&address).unwrap().to_string(), address);
    }

    #[test]
    fn whoever_else_answers_is_refused() {
        for (answer, words) in [
            (version(7, 0), "found 7.0"),
            (version(PROTOCOL.0, PROTOCOL.1 + 1), "same ggml"),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
                "another protocol",
            ),
            (Vec::new(), "rpc://127.0.0.1"),
        ] {
            let message = greet(&answering(answer)).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        // Nobody at all: the port was free a moment ago.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let message = greet(&address).unwrap_err().to_string();
        assert!(message.contains("gpt2 worker"), "{message}");
        assert!(
            greet("no port")
                .unwrap_err()
                .to_string()
                .contains("HOST:PORT")
        );
    }
}
