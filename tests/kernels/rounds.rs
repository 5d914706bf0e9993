//! Drivers that cut long loops short (`Caps::loop_rounds`): results are right at the largest size that a Config takes, and at
//! the next one, which another Config takes, or none. Loops that one dtype has unrolled another has not.

use loom::Gpu;
use loom::harness::Call;
use loom::kernel::Listed;
use tileloom::gemm::{self, Matrix};
use tileloom::vq_lookup::{self, Combine};
use tileloom::{
    Dtype, Error, ErrorKind, attention, attention_merge, norm, norm_backward, softmax, softmax_backward, vq_assign,
    vq_train,
};

use crate::{Depth, Suite};

/// Of the Config that is chosen for `of(1)`, whose limit is below `of(most)`.
fn edge<D: Listed>(gpu: &Gpu, most: usize, of: impl Fn(usize) -> D) -> Result<(), String> {
    edge_from(gpu, [1, most], of)
}

/// Of the Config that is chosen for `of(least)`.
fn edge_from<D: Listed>(gpu: &Gpu, [least, most]: [usize; 2], of: impl Fn(usize) -> D) -> Result<(), String> {
    let caps = gpu.kernels.caps();
    let config = of(least).choose(&caps).map_err(|error| error.to_string())?;
    let (mut fits, mut past) = (least, most);
    while past - fits > 1 {
        let middle = fits + (past - fits) / 2;
        match of(middle).fits(&caps, &config) {
            Ok(()) => fits = middle,
            Err(_) => past = middle,
        }
    }
    match of(past).fits(&caps, &config) {
        Err(error) if error.to_string().contains("rounds of an invocation's loops") => {}
        other => return Err(format!("{config} is not limited by rounds at {past}: {other:?}")),
    }
    Call::random(of(fits), 1).check(gpu, &gpu.kernels, Some(&config))?;
    match of(past).choose(&caps) {
        Ok(other) => Call::random(of(past), 2).check(gpu, &gpu.kernels, Some(&other)).map(drop),
        Err(Error { kind: ErrorKind::ConfigUnfit { .. }, .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("rounds", cases);

pub fn cases(suite: &mut Suite) {
    let lack = suite.gpu.kernels.caps().loop_rounds().is_none().then_some("a driver that cuts loops short");
    for x in Dtype::ALL {
        for code_dim in [64, 256] {
            suite.case_unless(lack, format!("vq_assign {x} of {code_dim} elements"), move |gpu| {
                edge(gpu, 4096, |num_codes| vq_assign::Problem {
                    n: 9,
                    num_codes,
                    code_dim,
                    x,
                    codebook: x,
                    ..Default::default()
                })
            });
        }
        suite.case_unless(lack, format!("attention {x}"), move |gpu| {
            edge_from(gpu, [300, 1 << 16], |seq_kv| attention_of(x, 1, seq_kv))
        });
        suite.case_unless(lack, format!("gemm {x}"), move |gpu| {
            edge(gpu, 1 << 16, |fours| gemm::Problem::new(16, 32, 4 * fours, x))
        });
        suite.case_unless(lack, format!("softmax {x}"), move |gpu| {
            let cols = |blocks| 4096 * (7 + blocks);
            edge(gpu, 1024, |blocks| softmax::Problem { rows: 4, cols: cols(blocks), x, y: x, ..Default::default() })
        });
    }
    if suite.depth >= Depth::Full {
        full(suite, lack);
    }
}

fn attention_of(x: Dtype, seq_q: usize, seq_kv: usize) -> attention::Problem {
    attention::Problem { seq_q, seq_kv, x, o: x, ..attention::Problem::new(1, 2, 1, 64) }
}

fn full(suite: &mut Suite, lack: Option<&str>) {
    for x in Dtype::ALL {
        suite.case_unless(lack, format!("attention {x}, a tile"), move |gpu| {
            edge(gpu, 1 << 16, |seq_kv| attention_of(x, 20, seq_kv))
        });
        suite.case_unless(lack, format!("vq_assign {x}, cosine, top 4"), move |gpu| {
            let (metric, top) = (vq_assign::Metric::Cosine, 4);
            edge(gpu, 4096, |num_codes| {
                let n = num_codes + 4;
                vq_assign::Problem {
                    n: 9,
                    num_codes: n,
                    code_dim: 7,
                    metric,
                    top,
                    x,
                    codebook: x,
                    ..Default::default()
                }
            })
        });
        for (name, m, n, rest) in [("one row", 1, 64, 0), ("few columns", 64, 5, 0), ("odd k", 16, 32, 1)] {
            suite.case_unless(lack, format!("gemm {x}, {name}"), move |gpu| {
                edge(gpu, 1 << 18, |fours| gemm::Problem {
                    d: Matrix::new(Dtype::F32),
                    ..gemm::Problem::new(m, n, 4 * fours + rest, x)
                })
            });
        }
        suite.case_unless(lack, format!("softmax_backward {x}"), move |gpu| {
            let cols = |blocks| 4096 * (7 + blocks);
            edge(gpu, 1024, |blocks| softmax_backward::Problem {
                rows: 4,
                cols: cols(blocks),
                y: x,
                dy: x,
                dx: x,
                ..Default::default()
            })
        });
        for kind in [norm::Kind::Rms, norm::Kind::Layer] {
            suite.case_unless(lack, format!("norm {x}, {kind:?}"), move |gpu| {
                edge(gpu, 1024, |blocks| norm::Problem {
                    kind,
                    rows: 4,
                    cols: 4096 * (7 + blocks),
                    x,
                    y: x,
                    ..Default::default()
                })
            });
            suite.case_unless(lack, format!("norm_backward {x}, {kind:?}"), move |gpu| {
                let of = |blocks| norm_backward::Problem {
                    kind,
                    rows: 4,
                    cols: 4096 * (7 + blocks),
                    x,
                    dy: x,
                    ..Default::default()
                };
                edge(gpu, 1024, |blocks| norm_backward::Problem { dx: Some(x), ..of(blocks) })
            });
        }
        for combine in [Combine::Sum, Combine::Concat] {
            suite.case_unless(lack, format!("vq_lookup {x}, {combine:?}"), move |gpu| {
                edge(gpu, 1 << 17, |books| vq_lookup::Problem {
                    books: books + 1,
                    code_dim: 4,
                    combine,
                    x,
                    y: x,
                    ..Default::default()
                })
            });
        }
        suite.case_unless(lack, format!("vq_train {x}"), move |gpu| {
            edge(gpu, 1 << 17, |code_dim| vq_train::Problem { n: 2, code_dim, least: 0.5, x, ..Default::default() })
        });
        suite.case_unless(lack, format!("attention_merge {x}"), move |gpu| {
            edge(gpu, 1 << 17, |splits| attention_merge::Problem {
                splits,
                rows: 2,
                dim: 8,
                x,
                y: x,
                ..Default::default()
            })
        });
    }
}
