//! Gradients, held against differences of what they are the gradients of. For tests.

/// An input of a loss, and what is said to be the gradient of the loss by it.
pub(super) struct Input<'a> {
    pub name: &'a str,
    pub values: &'a [f64],
    pub gradient: &'a [f64],
}

/// How far an input is moved either way, and twice as far.
const STEP: f64 = 1e-3;

/// Holds each gradient against central differences of fourth order of `loss`, which takes the values of all inputs in
/// their order. Both are f64.
///
/// # Panics
/// Where they differ by more than 1e-8 of their size, or of 1.
pub(super) fn hold(what: &str, inputs: &[Input], loss: impl Fn(&[Vec<f64>]) -> f64) {
    let mut values: Vec<Vec<f64>> = inputs.iter().map(|input| input.values.to_vec()).collect();
    for (of, Input { name, gradient, .. }) in inputs.iter().enumerate() {
        assert_eq!(gradient.len(), values[of].len(), "{what}: elements of the gradient of {name}");
        for (i, &gradient) in gradient.iter().enumerate() {
            let still = values[of][i];
            let mut apart = |by: f64| {
                let [more, less] = [by, -by].map(|by| {
                    values[of][i] = still + by;
                    loss(&values)
                });
                more - less
            };
            let slope = (8.0 * apart(STEP) - apart(2.0 * STEP)) / (12.0 * STEP);
            values[of][i] = still;
            let near = (gradient - slope).abs() <= 1e-8 * slope.abs().max(1.0);
            assert!(near, "{what}: the gradient of {name} at {i} is {gradient}, the slope {slope}");
        }
    }
}

/// A loss whose gradient by `y` is `dy`: their product, of what is finite (hidden results do not move).
pub(super) fn product(y: &[f64], dy: &[f64]) -> f64 {
    assert_eq!(y.len(), dy.len());
    y.iter().zip(dy).filter(|(y, _)| y.is_finite()).map(|(y, dy)| y * dy).sum()
}

/// Values between about -3 and 3 without a pattern, others by another seed.
pub(super) fn values(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * (29 + 8 * seed) + 5 * seed) % 23) as f64 / 4.0 - 2.7).collect()
}

#[test]
fn what_is_wrong_is_found() {
    let x = [0.5, -1.5];
    let square = |x: &[Vec<f64>]| x[0].iter().map(|x| x * x * x).sum();
    let held = |gradient: [f64; 2]| {
        let input = Input { name: "x", values: &x, gradient: &gradient };
        std::panic::catch_unwind(|| hold("cubes", &[input], square)).is_ok()
    };
    assert!(held([0.75, 6.75]));
    assert!(!held([0.75, 6.750_001]) && !held([0.74, 6.75]));
}
