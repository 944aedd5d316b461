//! Records per second of pattern detection.

use divan::Bencher;
use millrace_core::TimeDomain;
use millrace_core::cep::{AfterMatch, FieldValue, Fields, Pattern, field};
use millrace_core::params::NoParams;
use millrace_core::stream::job;

use crate::driver::{Event, KEYS, Reading, round_ms, rounds};

impl Fields for Reading {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match name {
            "sensor" => FieldValue::Text(&self.sensor),
            "value" => FieldValue::Number(self.value),
            _ => FieldValue::Null,
        }
    }
}

/// A very low reading, then a very high one: three in a hundred begin, six can end it.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 5)]
fn two_stages(bencher: Bencher<'_, '_>, keys: usize) {
    let pattern = Pattern::begin("low")
        .where_(field("value").lt(20.3))
        .followed_by("high")
        .where_(field("value").gt(29.0))
        .within(round_ms(keys));
    detect(bencher, keys, pattern);
}

/// Low readings in a row, as many as come, then a very high one. A match uses up its events.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 5)]
fn one_or_more(bencher: Bencher<'_, '_>, keys: usize) {
    let pattern = Pattern::begin("low")
        .where_(field("value").lt(20.6))
        .one_or_more()
        .followed_by("high")
        .where_(field("value").gt(29.0))
        .within(round_ms(keys))
        .after_match(AfterMatch::PastLast);
    detect(bencher, keys, pattern);
}

fn detect(bencher: Bencher<'_, '_>, keys: usize, pattern: Pattern) {
    let job = job::<Event, NoParams>("swings", "From low to very high.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .pattern(move |_| pattern.clone(), TimeDomain::Event)
        .to(|_| ("swings", ""));
    rounds(bencher, keys, job);
}
