//! What is told of repeated measurements.

/// The quantile `q` of `samples` in 0..=1, linear between neighbours; NaN of none.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The median distance from the median.
pub fn mad(samples: &[f64]) -> f64 {
    let middle = median(samples);
    median(&samples.iter().map(|v| (v - middle).abs()).collect::<Vec<_>>())
}

/// How probable it is that a normal value is above `z` >= 0 (Abramowitz and Stegun, 26.2.17: to 7.5e-8; far out by the
/// continued fraction 26.2.14).
pub fn normal_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z > 4.0 {
        return density / (1..=60).rev().fold(z, |below, k| z + k as f64 / below);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let factors = [0.319_381_53, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    density * factors.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t)
}

/// The value that a normal one is below with probability `p` > 1/2.
pub fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if normal_tail(middle) > 1.0 - p { low = middle } else { high = middle }
    }
    low
}

/// Which of these probabilities are told apart from chance, at an error rate of `rate` for all together (Holm).
pub fn holm(tails: &[f64], rate: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..tails.len()).collect();
    order.sort_by(|&a, &b| tails[a].total_cmp(&tails[b]));
    let mut told = vec![false; tails.len()];
    for (i, &row) in order.iter().enumerate() {
        if tails[row] > rate / (tails.len() - i) as f64 {
            break;
        }
        told[row] = true;
    }
    told
}

/// All choices of `n` signs, which are 2^n.
pub fn signs(n: usize) -> impl Iterator<Item = Vec<f64>> {
    (0..1u64 << n).map(move |bits| (0..n).map(|i| if bits >> i & 1 == 0 { 1.0 } else { -1.0 }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_hand() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let ten: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        assert_eq!((quantile(&ten, 0.1), quantile(&ten, 0.9)), (1.0, 9.0));
        assert_eq!((quantile(&ten, 0.0), quantile(&ten, 1.0)), (0.0, 10.0));
        assert_eq!(quantile(&[5.0], 0.9), 5.0);
        assert!(median(&[]).is_nan());
        assert_eq!(mad(&[1.0, 2.0, 4.0, 9.0]), 1.5);
    }

    #[test]
    fn normal_values_by_tables() {
        for (z, tail) in [(0.0, 0.5), (1.0, 0.158_655), (1.959_964, 0.025), (3.0, 1.3499e-3), (5.0, 2.8665e-7)] {
            assert!((normal_tail(z) / tail - 1.0).abs() < 1e-4, "{z}: {}", normal_tail(z));
        }
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-4);
    }

    #[test]
    fn holm_by_hand() {
        // 0.01 <= 0.05 / 3, 0.02 <= 0.05 / 2, 0.3 > 0.05.
        assert_eq!(holm(&[0.3, 0.01, 0.02], 0.05), [false, true, true]);
        // 0.02 > 0.05 / 3: nothing after it counts.
        assert_eq!(holm(&[0.02, 0.03, 0.04], 0.05), [false; 3]);
        assert!(holm(&[], 0.05).is_empty());
        assert_eq!(signs(3).count(), 8);
    }
}
