//! Seeded draws for tests and benches: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). By whole numbers
//! and IEEE 754's exact operations alone, so that they are the same on every machine.

/// A generator of 64 bits of state.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same draws for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of item `number` of a `stream`.
    pub fn of_stream(number: u64, stream: u64) -> Self {
        Self(Self(stream.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ number).bits())
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.bits()) * limit as u128) >> 64) as usize
    }

    /// Uniform in 0 to 1, the latter excluded.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, variance one: the sum of eight uniform draws.
    pub fn normal(&mut self) -> f32 {
        let sum: u64 = (0..2)
            .map(|_| self.bits())
            .map(|x| (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48))
            .sum();
        (sum as f32 / 65536.0 - 4.0) * (12.0f32 / 8.0).sqrt()
    }

    /// A random direction of length one.
    pub fn direction(&mut self, dims: usize) -> Vec<f32> {
        unit((0..dims).map(|_| self.normal()).collect())
    }
}

/// A vector brought to length one.
pub fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The draws of seed 1234567 as the generator's authors have them: figures of benches are compared
    /// over time, and rest on them.
    #[test]
    fn draws_are_those_of_splitmix64() {
        let mut dice = Dice::new(1_234_567);
        let drawn: Vec<u64> = (0..5).map(|_| dice.bits()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn normal_draws_have_mean_zero_and_variance_one() {
        let mut dice = Dice::new(1);
        let drawn: Vec<f64> = (0..100_000).map(|_| f64::from(dice.normal())).collect();
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean}, {variance}");
    }
}
