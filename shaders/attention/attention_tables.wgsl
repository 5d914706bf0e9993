fn tables_load(i: u32) -> f32 { return tables[i]; }
