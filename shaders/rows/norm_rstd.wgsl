// 1 / sqrt(m2 / cols + eps), where m2 is a sum of squares.
#import rstd

fn rstd_of(m2: f32) -> f32 { return rstd_of_variance(m2 / f32(params.cols)); }
