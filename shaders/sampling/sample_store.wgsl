fn store_token(i: u32, value: u32) { token[i] = value; }
