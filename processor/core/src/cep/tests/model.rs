//! A matcher by brute force: all ways to give events to stages, each judged by what the case format says. It shares
//! nothing with the NFA but the pattern.

use super::*;

struct Model<'a> {
    elements: &'a [Element],
    events: &'a [(&'static str, i64, Letter)],
    within: Option<i64>,
}

/// `(element, event)`, in the order taken.
type Picks = Vec<(usize, usize)>;

impl Model<'_> {
    fn element(&self, at: usize) -> &Element {
        &self.elements[at]
    }

    fn satisfies(&self, predicate: &Predicate, event: usize) -> bool {
        match predicate {
            Predicate::Compare { right: Operand::Const(Scalar::Text(letter)), .. } => {
                self.events[event].2.0.to_string() == *letter
            }
            Predicate::Or(any) => any.iter().any(|p| self.satisfies(p, event)),
            Predicate::Not(inner) => !self.satisfies(inner, event),
            other => panic!("not in the model: {other:?}"),
        }
    }

    fn wants(&self, element: usize, event: usize) -> bool {
        match &self.element(element).body {
            Body::Stage { condition, .. } => condition.as_ref().is_none_or(|c| self.satisfies(c, event)),
            Body::Group(_) => panic!("not in the model"),
        }
    }

    fn is_not(&self, element: usize) -> bool {
        self.element(element).contiguity.is_some_and(Contiguity::is_not)
    }

    fn until(&self, element: usize, event: usize) -> bool {
        self.element(element).quantifier.until.as_ref().is_some_and(|until| self.satisfies(until, event))
    }

    fn times(&self, element: usize) -> (usize, usize) {
        let times = self.element(element).quantifier.times.unwrap_or(Times { min: 1, max: Some(1) });
        (times.min as usize, times.max.map_or(usize::MAX, |max| max as usize))
    }

    fn matches(&self) -> Vec<Picks> {
        let mut found = Vec::new();
        self.search(0, &mut Vec::new(), &mut found);
        found
    }

    fn search(&self, element: usize, picks: &mut Picks, found: &mut Vec<Picks>) {
        if element == self.elements.len() {
            if !picks.is_empty() && self.complete(picks) {
                found.push(picks.clone());
            }
            return;
        }
        if self.is_not(element) || self.element(element).quantifier.optional {
            self.search(element + 1, picks, found);
        }
        if !self.is_not(element) {
            self.repeat(element, 0, picks, found);
        }
    }

    fn repeat(&self, element: usize, taken: usize, picks: &mut Picks, found: &mut Vec<Picks>) {
        let (min, max) = self.times(element);
        if taken >= min {
            self.search(element + 1, picks, found);
        }
        if taken < max {
            let from = picks.last().map_or(0, |(_, event)| event + 1);
            for event in from..self.events.len() {
                if self.may_take(picks, element, event) {
                    picks.push((element, event));
                    self.repeat(element, taken + 1, picks, found);
                    picks.pop();
                }
            }
        }
    }

    /// How often the last element has been taken.
    fn count(&self, picks: &Picks) -> usize {
        let last = picks.last().map(|(element, _)| *element);
        picks.iter().filter(|(element, _)| Some(*element) == last).count()
    }

    /// The step to this event is one that contiguity, `until`, time and what must not come allow.
    fn step(&self, picks: &Picks, element: usize, event: usize) -> bool {
        let quantifier = &self.element(element).quantifier;
        let Some(&(before, prev)) = picks.last() else {
            return self.wants(element, event) && !self.until(element, event);
        };
        let again = before == element;
        let skipped = prev + 1..event;
        let contiguity = if again {
            match quantifier.inner {
                Inner::Strict => Contiguity::Next,
                Inner::Relaxed => Contiguity::FollowedBy,
                Inner::Any => Contiguity::FollowedByAny,
            }
        } else {
            self.element(element).contiguity.unwrap()
        };
        let contiguous = match contiguity {
            Contiguity::Next => skipped.is_empty(),
            Contiguity::FollowedBy => !skipped.clone().any(|x| self.wants(element, x)),
            _ => true,
        };
        let in_time = self.within.is_none_or(|w| self.events[event].1 < self.events[picks[0].1].1 + w);
        let looping = !(prev + 1..=event).any(|x| self.until(element, x));
        let next = prev + 1;
        let nots = if again {
            let may_end = self.count(picks) >= self.times(element).0;
            let behind = (element + 1..self.elements.len()).take_while(|e| self.is_not(*e));
            behind.into_iter().all(|not| match self.element(not).contiguity {
                Some(Contiguity::NotNext) => !(may_end && self.wants(not, next)),
                _ => !(next..=event).any(|x| self.wants(not, x)),
            })
        } else {
            (before + 1..element).filter(|e| self.is_not(*e)).all(|not| match self.element(not).contiguity {
                Some(Contiguity::NotNext) => !self.wants(not, next),
                _ => !skipped.clone().any(|x| self.wants(not, x)),
            })
        };
        self.wants(element, event) && contiguous && in_time && looping && nots
    }

    /// Whether a greedy loop that is left, or passed by, on the way to `to` could take this event.
    fn greedy_could(&self, picks: &Picks, to: usize, event: usize) -> bool {
        let from = picks.last().map_or(0, |(element, _)| *element);
        (from..to).filter(|e| !self.is_not(*e) && self.element(*e).quantifier.greedy).any(|e| {
            let again = picks.last().is_some_and(|(element, _)| *element == e);
            (!again || self.count(picks) < self.times(e).1) && self.step(picks, e, event)
        })
    }

    fn may_take(&self, picks: &Picks, element: usize, event: usize) -> bool {
        let from = picks.last().map_or(event, |(_, event)| event + 1);
        self.step(picks, element, event)
            && (picks.last().is_some_and(|(before, _)| *before == element)
                || !(from..=event).any(|x| self.greedy_could(picks, element, x)))
    }

    /// What must not come at the end of the pattern does not.
    fn complete(&self, picks: &Picks) -> bool {
        let (last, event) = *picks.last().unwrap();
        let start = self.events[picks[0].1].1;
        if self.within.is_some_and(|w| self.events[event].1 >= start + w) {
            return false;
        }
        let trailing: Vec<usize> = (0..self.elements.len()).rev().take_while(|e| self.is_not(*e)).collect();
        if trailing.is_empty() {
            return true;
        }
        let waits = trailing.iter().any(|e| self.element(*e).contiguity == Some(Contiguity::NotFollowedBy));
        let end = self.events.len();
        let over = self
            .within
            .map_or(end, |w| self.events.iter().position(|(_, at, _)| *at >= start + w).unwrap_or(end));
        let until = if waits { over } else { event + 2 };
        until <= over
            && (event + 1..until).all(|x| {
                let nots = (last + 1..self.elements.len()).filter(|e| self.is_not(*e));
                let kept_away = nots.into_iter().all(|not| {
                    let concerns =
                        self.element(not).contiguity != Some(Contiguity::NotNext) || x == event + 1;
                    !(concerns && self.wants(not, x))
                });
                kept_away && !self.greedy_could(picks, self.elements.len(), x)
            })
    }
}

impl Model<'_> {
    fn name(&self, element: usize) -> &str {
        match &self.element(element).body {
            Body::Stage { name, .. } => name,
            Body::Group(_) => panic!("not in the model"),
        }
    }

    /// With which event a match is complete; the time limit is later than all.
    fn completed(&self, picks: &Picks) -> usize {
        let trailing = self.elements.iter().rev().map_while(|e| e.contiguity.filter(|c| c.is_not()));
        let last = picks.last().unwrap().1;
        trailing.fold(last, |at, not| if not == Contiguity::NotNext { at.max(last + 1) } else { usize::MAX })
    }

    /// What a strategy leaves of all matches, as events: of those that begin first, the one that is complete first is
    /// emitted, and takes away what it covers.
    fn left(&self, strategy: &AfterMatch, mut all: Vec<Picks>) -> Vec<Vec<usize>> {
        all.sort_by_cached_key(|picks| (picks[0].1, self.completed(picks), events(picks)));
        let mut left = Vec::new();
        while !all.is_empty() {
            let picks = all.remove(0);
            let of = |stage: &str| {
                let taken = picks.iter().filter(|(element, _)| self.name(*element) == stage);
                taken.map(|(_, event)| *event).collect::<Vec<_>>()
            };
            let from = match strategy {
                AfterMatch::NoSkip => 0,
                AfterMatch::ToNext => picks[0].1 + 1,
                AfterMatch::PastLast => picks.last().unwrap().1 + 1,
                AfterMatch::ToFirst(stage) => of(stage).first().copied().unwrap_or(0),
                AfterMatch::ToLast(stage) => of(stage).last().copied().unwrap_or(0),
            };
            all.retain(|other| other[0].1 >= from);
            left.push(events(&picks));
        }
        left
    }
}

fn events(picks: &Picks) -> Vec<usize> {
    picks.iter().map(|(_, event)| *event).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_nfa_finds_what_brute_force_finds(
        patterns in proptest::collection::vec(patterns(), 24),
        events in letters(7),
    ) {
        for pattern in patterns {
            let found = dry_run(&pattern, &pattern, &events, Limits::default()).unwrap();
            prop_assert!(found.only_old.is_empty() && found.only_new.is_empty());
            let model = Model { elements: &pattern.elements, events: &events, within: pattern.within };
            let name = |element: usize| model.name(element).into();
            let mut expected: Vec<DryMatch> = model.matches().into_iter().map(|picks| {
                let mut stages: Vec<(std::sync::Arc<str>, Vec<usize>)> = Vec::new();
                for (element, event) in picks {
                    match stages.last_mut().filter(|(stage, _)| *stage == name(element)) {
                        Some((_, events)) => events.push(event),
                        None => stages.push((name(element), vec![event])),
                    }
                }
                DryMatch { key: "k".into(), stages }
            }).collect();
            expected.sort_unstable();
            let show = |matches: &[DryMatch]| format!("{:?}", matches.iter().map(|m| &m.stages).collect::<Vec<_>>());
            prop_assert_eq!(
                show(&found.both), show(&expected),
                "{}", serde_json::to_string(&pattern).unwrap()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_match_takes_away_what_its_strategy_says(
        patterns in proptest::collection::vec(patterns(), 12),
        letters in letters(7),
        stage in any::<prop::sample::Index>(),
        within in 1_i64..8,
    ) {
        for mut pattern in patterns {
            // Without a time limit, what began before a match may hold it back for ever.
            pattern.within.get_or_insert(within);
            let model = Model { elements: &pattern.elements, events: &letters, within: pattern.within };
            let all = model.matches();
            let mut alike: Vec<Vec<usize>> = all.iter().map(events).collect();
            alike.sort_unstable();
            // Of matches of the same events, only the stages tell which is the first: that is not stated.
            let unclear = alike.windows(2).any(|two| two[0] == two[1]);
            let stages: Vec<usize> = (0..pattern.elements.len()).filter(|e| !model.is_not(*e)).collect();
            let stage = model.name(stages[stage.index(stages.len())]).to_owned();
            let mut strategies = vec![AfterMatch::ToNext, AfterMatch::PastLast];
            if !unclear {
                strategies.extend([AfterMatch::ToFirst(stage.clone()), AfterMatch::ToLast(stage)]);
            }
            for strategy in strategies {
                let pattern = Pattern { after_match: strategy.clone(), ..pattern.clone() };
                let found = dry_run(&pattern, &pattern, &letters, Limits::default()).unwrap().both;
                let mut found: Vec<Vec<usize>> = found.into_iter().map(|found| {
                    let mut events: Vec<usize> = found.stages.into_iter().flat_map(|(_, events)| events).collect();
                    events.sort_unstable();
                    events
                }).collect();
                let mut expected = model.left(&strategy, all.clone());
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected, "{}", serde_json::to_string(&pattern).unwrap());
            }
        }
    }

    #[test]
    fn counts_are_exact_and_no_event_is_kept_for_nobody(
        pattern in patterns(),
        strategy in prop_oneof![Just(AfterMatch::NoSkip), Just(AfterMatch::ToNext), Just(AfterMatch::PastLast)],
        partial_matches in prop_oneof![Just(2_usize), Just(1_000)],
        events in letters(30),
    ) {
        use crate::cep::matcher::{Matcher, Work};

        let limits = Limits { partial_matches, ..Limits::default() };
        let nfa = compile(&pattern.after_match(strategy), limits).unwrap();
        let (mut matcher, mut work) = (Matcher::<Letter>::default(), Work::default());
        work.reset(&nfa);
        for (_, at, letter) in events {
            nfa.advance(&mut matcher, at, &mut work, &mut |_| {});
            nfa.event(&mut matcher, std::borrow::Cow::Owned(letter), at, &mut work, &mut |_| {});
            let mut again = Work::default();
            nfa.count(&matcher, &mut again);
            prop_assert_eq!(&again.live, &work.live);
            prop_assert!(matcher.runs.is_sorted_by_key(|run| run.first));
            prop_assert!(matcher.runs.len() + matcher.held.len() <= partial_matches);
            let last = matcher.runs.iter().filter_map(|run| run.taken).chain(matcher.held.iter().map(|h| h.taken));
            let mut held: Vec<u64> =
                last.flat_map(|taken| matcher.buffer.latest_first(Some(taken)).map(|(_, e)| e.seq)).collect();
            held.sort_unstable();
            held.dedup();
            prop_assert_eq!(held.len(), matcher.buffer.len());
        }
    }
}
