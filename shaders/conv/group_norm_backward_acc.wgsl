// Sums of g n and of g, and how they are joined.
struct Acc {
  gn: V,
  g: V,
}

fn joined(a: Acc, b: Acc) -> Acc { return Acc(a.gn + b.gn, a.g + b.g); }
