//! Routing of tokens to experts.

pub mod moe_balance;
pub mod moe_bias;
pub mod moe_route;
pub mod moe_route_backward;
