//! Routing of tokens to experts.

pub(super) mod moe_route;
