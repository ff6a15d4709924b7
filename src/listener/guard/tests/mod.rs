//! The guard below a real hyper, against hyper alone.

mod close;
mod fuzz;
mod harness;
mod table;
mod upgrade;
