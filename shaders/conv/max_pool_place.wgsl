// Where the largest element of a window lies.
fn put_place(i: u32, place: u32) { indices[i] = place; }
