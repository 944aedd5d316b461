//! The rate slider's scale: logarithmic, so that 10/s and 10,000/s are both easy to hit, with 0 at its left end.

/// Positions of the slider: 0 to this.
pub const STEPS: f64 = 1_000.0;
/// Largest rate, events/s.
pub const MAX_RATE: f64 = 50_000.0;

/// Slider position to events/s, rounded to two significant digits so that dragging gives numbers that people say.
pub fn rate_at(position: f64) -> f64 {
    let share = (position / STEPS).clamp(0.0, 1.0);
    let raw = (MAX_RATE + 1.0).powf(share) - 1.0;
    if raw < 10.0 {
        return raw.round();
    }
    let unit = 10_f64.powf(raw.log10().floor() - 1.0);
    ((raw / unit).round() * unit).min(MAX_RATE)
}

/// Events/s to slider position.
pub fn position_of(rate: f64) -> f64 {
    let rate = if rate.is_finite() { rate.clamp(0.0, MAX_RATE) } else { 0.0 };
    ((rate + 1.0).ln() / (MAX_RATE + 1.0).ln() * STEPS).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_way_back() {
        assert_eq!(rate_at(0.0), 0.0);
        assert_eq!(rate_at(STEPS), MAX_RATE);
        for rate in [0.0, 10.0, 100.0, 5_000.0, 50_000.0] {
            let back = rate_at(position_of(rate));
            assert!((back - rate).abs() <= rate * 0.03, "{rate} came back as {back}");
        }
        assert_eq!(position_of(f64::NAN), 0.0);
    }
}
