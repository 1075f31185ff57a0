//! The commands as their users meet them: text in, text out, exit statuses.
//!
//! They run the demo model that is inside the program.
#![cfg(feature = "demo-model")]

mod generate;
mod manners;
mod measure;
mod run;
mod text;
