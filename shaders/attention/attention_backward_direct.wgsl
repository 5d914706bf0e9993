// What is walked is read where it lies.
#import attention_backward_rows_each

fn stage(walk: Walk, first: i32, may_hide: bool, ids: Ids) {}
fn staged_place(walk: Walk, u: u32, at: u32) -> Place { return place(walk, at); }
fn fetch(t: u32, p: Place, may_hide: bool, ids: Ids) {}
fn x_at(t: u32, p: Place, c: u32) -> vec4<f32> { return x_clean(p.x, c, true); }
fn y_at(t: u32, p: Place, c: u32) -> vec4<f32> { return y_clean(p.y, c, true); }
