//! What ggml's RPC calls to send and receive: `vendor/transport.cpp` has its side.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

use super::client::Client;
use super::connection::Connection;
use super::listener::{self, Listener};
use super::registry;

/// What a pointer that ggml holds points at. One thread uses it at a time.
enum Socket {
    /// To a worker.
    Connection(Box<Connection>),
    /// Where a worker waits for clients.
    Listener(Listener),
    /// Of a worker, to the client that is served.
    Client(Client),
}

/// The table of functions that `vendor/transport.cpp` declares.
#[repr(C)]
struct Functions {
    connect: extern "C" fn(*const c_char, c_int) -> *mut c_void,
    listen: extern "C" fn(*const c_char, c_int) -> *mut c_void,
    accept: extern "C" fn(*mut c_void) -> *mut c_void,
    send: extern "C" fn(*mut c_void, *const c_void, usize) -> bool,
    flush: extern "C" fn(*mut c_void) -> bool,
    receive: extern "C" fn(*mut c_void, *mut c_void, usize) -> bool,
    close: extern "C" fn(*mut c_void),
}

static FUNCTIONS: Functions = Functions {
    connect,
    listen,
    accept,
    send,
    flush,
    receive,
    close,
};

unsafe extern "C" {
    fn ggml_rpc_use_transport(functions: *const Functions);
}

/// Gives ggml the functions. To be called before anything else of its RPC.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: the table is constant, of the layout that the other side declares, and set once,
    // before any thread of ggml's RPC is started.
    ONCE.call_once(|| unsafe { ggml_rpc_use_transport(&raw const FUNCTIONS) });
}

fn give(socket: Option<Socket>) -> *mut c_void {
    socket.map_or(std::ptr::null_mut(), |socket| {
        Box::into_raw(Box::new(socket)).cast()
    })
}

/// The endpoint that ggml has split at its colon.
///
/// # Safety
/// `host` is a C string.
unsafe fn endpoint(host: *const c_char, port: c_int) -> String {
    // SAFETY: the caller's condition.
    let host = unsafe { CStr::from_ptr(host) };
    format!("{}:{port}", host.to_string_lossy())
}

/// # Safety
/// `socket` was given by [`give`] and not closed, and no other thread uses it.
unsafe fn taken<'a>(socket: *mut c_void) -> &'a mut Socket {
    // SAFETY: the caller's condition.
    unsafe { &mut *socket.cast::<Socket>() }
}

/// Null for an endpoint that no user named: a client may ask a worker to connect somewhere.
extern "C" fn connect(host: *const c_char, port: c_int) -> *mut c_void {
    // SAFETY: ggml passes the host's C string.
    let endpoint = unsafe { endpoint(host, port) };
    let connection = registry::connect(&endpoint);
    give(connection.map(|connection| Socket::Connection(Box::new(connection))))
}

/// Null for an endpoint that is not served by [`super::serve`]: a client may ask a worker to listen
/// somewhere.
extern "C" fn listen(host: *const c_char, port: c_int) -> *mut c_void {
    // SAFETY: ggml passes the host's C string.
    let endpoint = unsafe { endpoint(host, port) };
    give(listener::take(&endpoint).map(Socket::Listener))
}

/// Null when serving ends.
extern "C" fn accept(socket: *mut c_void) -> *mut c_void {
    // SAFETY: ggml passes what `listen` gave, on the one thread that serves.
    match unsafe { taken(socket) } {
        Socket::Listener(listener) => give(listener.accept().map(Socket::Client)),
        _ => std::ptr::null_mut(),
    }
}

extern "C" fn send(socket: *mut c_void, data: *const c_void, size: usize) -> bool {
    if size == 0 {
        return true;
    }
    // SAFETY: ggml passes `size` bytes that it owns.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast(), size) };
    // SAFETY: ggml passes a socket of its own, which one thread uses at a time.
    match unsafe { taken(socket) } {
        Socket::Connection(connection) => {
            connection.send(bytes);
            true
        }
        Socket::Client(client) => client.send(bytes),
        Socket::Listener(_) => false,
    }
}

extern "C" fn flush(socket: *mut c_void) -> bool {
    // SAFETY: as in `send`.
    match unsafe { taken(socket) } {
        Socket::Connection(connection) => {
            connection.flush();
            true
        }
        Socket::Client(client) => client.flush(),
        Socket::Listener(_) => false,
    }
}

extern "C" fn receive(socket: *mut c_void, data: *mut c_void, size: usize) -> bool {
    let bytes = if size == 0 {
        &mut []
    } else {
        // The place may not be written yet, and a reference is to values.
        // SAFETY: ggml passes room for `size` bytes that nobody else uses.
        unsafe {
            data.cast::<u8>().write_bytes(0, size);
            std::slice::from_raw_parts_mut(data.cast(), size)
        }
    };
    // SAFETY: as in `send`.
    match unsafe { taken(socket) } {
        Socket::Connection(connection) => {
            connection.receive(bytes);
            true
        }
        Socket::Client(client) => client.receive(bytes),
        Socket::Listener(_) => false,
    }
}

extern "C" fn close(socket: *mut c_void) {
    if !socket.is_null() {
        // SAFETY: ggml passes what it was given, once, when nobody uses it any more.
        drop(unsafe { Box::from_raw(socket.cast::<Socket>()) });
    }
}
