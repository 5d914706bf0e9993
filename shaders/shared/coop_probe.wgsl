// product = lhs * rhs, one cooperative-matrix multiply of SIZE x SIZE x SIZE, row-major, by every
// subgroup of the one workgroup (all of them write the same values). For Kernels::probe.
//
// The types of the matrices come from the Config: LEFT, RIGHT and PRODUCT in their roles.

@compute @workgroup_size(WG_SIZE)
fn coop_probe() {
  let left = coopLoadT<LEFT>(&lhs[0], SIZE);
  let right = coopLoadT<RIGHT>(&rhs[0], SIZE);
  let zero = coopLoadT<PRODUCT>(&zeros[0], SIZE);
  coopStoreT(coopMultiplyAdd(left, right, zero), &product[0], SIZE);
}
