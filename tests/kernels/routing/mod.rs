mod moe_balance;
mod moe_bias;
mod moe_route;
mod moe_route_backward;
