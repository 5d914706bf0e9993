// The statistics of a channel that are given: mean and variance.
#import rstd
fn mean_of(s: u32) -> f32 { return running_mean[params.mean_at + s]; }
fn rstd_of(s: u32) -> f32 { return rstd_of_variance(params.scale * (params.scale * running_variance[params.variance_at + s])); }
fn rest_of(s: u32) -> f32 { return 0.0; }
