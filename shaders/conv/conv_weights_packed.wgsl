// Packed weights, a matrix whose rows are outputs: element i, counted through its rows.
#import weights_any

fn first_row() -> u32 { return 0u; }
fn code_columns() -> u32 { return params.weight_k; }

fn weights_begin(local: u32) { fill_table(local); }

fn weight_load(i: u32) -> f32 {
  of_row = i / params.weight_k;
  return value(i % params.weight_k);
}
