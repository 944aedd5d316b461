use crate::Random;

/// Picks ranks 0, 1, 2, .. with probabilities proportional to `1 / (rank + 1)^exponent`: few are frequent, many are rare.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Sums of the weights up to and including each rank.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Over so many ranks, at least one.
    pub fn new(ranks: u32, exponent: f64) -> Self {
        let weights = (1..=ranks.max(1)).map(|rank| f64::from(rank).powf(-exponent));
        let cumulative = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { cumulative: cumulative.collect() }
    }

    /// A rank.
    pub fn pick(&self, random: &mut Random) -> usize {
        let point = random.unit() * self.cumulative.last().copied().unwrap_or(0.0);
        self.cumulative.partition_point(|sum| *sum <= point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_their_weights_say() {
        let (zipf, mut random) = (Zipf::new(100, 1.0), Random::new(1, 0));
        let mut counts = [0_u32; 100];
        for _ in 0..200_000 {
            counts[zipf.pick(&mut random)] += 1;
        }
        // 1 + 1/2 + .. + 1/100 = 5.187
        for rank in [0, 1, 9, 99] {
            let expected = 200_000.0 / (rank + 1) as f64 / 5.187;
            let share = f64::from(counts[rank]) / expected;
            assert!((0.8..1.2).contains(&share), "rank {rank}: {share}");
        }
    }

    #[test]
    fn one_rank_is_always_picked() {
        let (zipf, mut random) = (Zipf::new(0, 1.0), Random::new(1, 0));
        assert!((0..100).all(|_| zipf.pick(&mut random) == 0));
    }
}
