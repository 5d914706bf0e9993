//! How calls of the family `routing` are made and judged.

pub mod moe_balance;
pub mod moe_bias;
pub mod moe_route;
pub mod moe_route_backward;
