// Element i of the tokens that are kept.

fn history_put(i: u32, token: i32) {
  history[i] = token;
}
