//! Routing of tokens to experts.

pub mod moe_route;
