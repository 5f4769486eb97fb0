//! Both ends against each other, and against what real clients have sent.

mod exec;
mod fairness;
mod frames;
mod ports;
mod properties;
mod recorded;
