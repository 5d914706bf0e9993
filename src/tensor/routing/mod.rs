//! Routing of tokens to experts.

pub(super) mod moe_balance;
mod moe_bias;
pub(super) mod moe_route;
mod moe_route_backward;
