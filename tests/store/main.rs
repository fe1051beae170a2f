//! One suite for every store.
//!
//! [`rules`] states each rule once and runs it against every store; [`model`] tells two stores the same random
//! story ([`story`]) and compares all that they say; [`file`] is about what only a store in a file can do.

mod file;
mod make;
mod model;
mod rules;
mod size;
mod speed;
mod story;
