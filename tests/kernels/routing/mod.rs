mod moe_route;
