// Where the count of a digit in a part is: [parts / SIDE, digits, SIDE], SIDE being a workgroup's parts, so that no two write side by side.
fn cell(digit: u32, part: u32) -> u32 {
  return (part / SIDE * params.digits + digit) * SIDE + part % SIDE;
}
