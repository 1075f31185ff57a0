//! HTTP apart from the protocols: connections and their limits, what every request must pass, the
//! routes that belong to no protocol, the page.

mod body;
mod connection;
mod cors;
mod guard;
mod page;
mod request_id;
mod routes;
mod timed;

pub(crate) use connection::accept;
pub use routes::router;
