// Where the count of a digit in a part is: [parts / WG_SIZE, digits, WG_SIZE], so that no two workgroups write side by side.
fn cell(digit: u32, part: u32) -> u32 {
  return (part / WG_SIZE * params.digits + digit) * WG_SIZE + part % WG_SIZE;
}
