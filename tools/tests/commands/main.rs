//! The commands as their users meet them: text in, text out, exit statuses.
//!
//! They run the demo model that is inside the program, or its f32 conversion.
#![cfg(feature = "demo-model")]

mod checkpoints;
mod devices;
mod generate;
mod manners;
mod measure;
mod reference;
mod run;
mod tasks;
mod text;
