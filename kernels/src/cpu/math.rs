//! Elementary functions that loops over them turn into vector code.

/// e^x to about 2 units in the last place, without branches so that the loop above becomes vector code. x = n ln 2 + r
/// with |r| <= ln 2 / 2, a polynomial for e^r (Cephes `expf`), and n put into the exponent.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Results beyond are as good as 0 or as infinite; NaN stays NaN.
    let x = x.clamp(-87.0, 87.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4f32;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, factor);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    // The low bits of `shifted` hold n; the shift drops everything above.
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Combines all of `values` with `start`, in eight runs of fixed membership that fit a vector, then those.
#[inline(always)]
fn fold_lanes(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 8];
    let whole = values.chunks_exact(8);
    let rest = whole.remainder();
    for eight in whole {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane = combine(*lane, value);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(start, &combine)
}

/// The sum.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    fold_lanes(values, 0.0, |sum, value| sum + value)
}

/// The largest; NaN counts for nothing.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    fold_lanes(values, f32::NEG_INFINITY, |largest, value| if value > largest { value } else { largest })
}

/// The sum of products, in four vectors so that no addition waits for the one before.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 32];
    let (whole_a, rest_a) = a.as_chunks::<32>();
    let (whole_b, rest_b) = b.as_chunks::<32>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane = a.mul_add(*b, *lane);
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn folds_take_every_value() {
        let values: Vec<f32> = (0..19).map(|at| (at * 7 % 19) as f32).collect();
        assert_eq!((super::sum(&values), super::largest(&values)), (171.0, 18.0));
        assert_eq!(super::dot(&values, &values), (0..19).map(|at| (at * at) as f32).sum::<f32>());
        assert_eq!((super::sum(&[]), super::largest(&[])), (0.0, f32::NEG_INFINITY));
    }

    #[test]
    fn exp_is_exact_to_a_few_units() {
        for step in -8_600..8_600 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!(((f64::from(super::exp(x)) - exact) / exact).abs() < 4e-7, "{x}");
        }
    }
}
