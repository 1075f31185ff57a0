//! Who may ask: the names the server goes by, the pages that may use it, the key.

mod hosts;
mod key;

pub use hosts::Hosts;
pub use key::ApiKey;
