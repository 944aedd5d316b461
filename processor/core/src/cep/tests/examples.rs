use serde_json::json;

use super::*;

/// Letters at times 0, 1, ..; what is found, as `stage:places` in order.
fn find(pattern: &Pattern, letters: &str) -> Vec<String> {
    let events: Vec<_> = letters.chars().zip(0..).map(|(letter, at)| ("k", at, Letter(letter))).collect();
    let found = dry_run(pattern, pattern, &events, Limits::default()).unwrap();
    let show = |m: DryMatch| {
        let stages = m.stages.iter().map(|(stage, places)| {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            format!("{stage}:{}", places.join(","))
        });
        stages.collect::<Vec<_>>().join(" ")
    };
    found.both.into_iter().map(show).collect()
}

fn refused(pattern: &Pattern) -> String {
    pattern.validate().unwrap_err().to_string()
}

#[test]
fn a_loop_ends_where_what_must_not_come_behind_it_does() {
    let pattern = |not: fn(Pattern) -> Pattern| {
        not(Pattern::begin("a").where_(is('a')).one_or_more())
            .where_(is('c'))
            .followed_by("b")
            .where_(is('b'))
    };
    let followed = pattern(|p| p.not_followed_by("c"));
    assert_eq!(find(&followed, "aab"), ["a:0 b:2", "a:0,1 b:2", "a:1 b:2"]);
    assert_eq!(find(&followed, "acab"), ["a:2 b:3"]);
    let next = pattern(|p| p.not_next("c"));
    assert_eq!(find(&next, "acb"), Vec::<String>::new());
    assert_eq!(find(&next, "axcb"), ["a:0 b:3"]);
}

#[test]
fn a_group_takes_the_contiguity_of_the_whole() {
    let pair = || Pattern::begin("a").where_(is('a')).followed_by("b").where_(is('b'));
    let next = Pattern::begin("c").where_(is('c')).group(pair(), Contiguity::Next);
    assert_eq!(find(&next, "cab"), ["c:0 a:1 b:2"]);
    assert_eq!(find(&next, "cxab"), Vec::<String>::new());
    let strict = Pattern::begin_group(pair()).times(2).consecutive();
    assert_eq!(find(&strict, "axbaxb"), ["a:0,3 b:2,5"]);
    assert_eq!(find(&strict, "axbxab"), Vec::<String>::new());
    // An empty round is no choice of its own; a and b in one round or in two are two.
    let maybe = Pattern::begin("c")
        .where_(is('c'))
        .group(pair_of_options(), Contiguity::FollowedBy)
        .times(2)
        .next("c2")
        .where_(is('c'));
    assert_eq!(find(&maybe, "cc"), ["c:0 c2:1"]);
    assert_eq!(find(&maybe, "cabc"), ["c:0 a:1 b:2 c2:3", "c:0 a:1 b:2 c2:3", "c:0 b:2 c2:3"]);
}

fn pair_of_options() -> Pattern {
    Pattern::begin("a").where_(is('a')).optional().followed_by("b").where_(is('b')).optional()
}

#[test]
fn a_group_loop_with_until_and_with_what_must_not_come_behind_it() {
    let pair = || Pattern::begin("a").where_(is('a')).followed_by("b").where_(is('b'));
    let until = Pattern::begin_group(pair()).one_or_more().until(is('c')).followed_by("c").where_(is('c'));
    assert_eq!(find(&until, "ababc"), ["a:0 b:1 c:4", "a:0,2 b:1,3 c:4", "a:2 b:3 c:4"]);
    assert_eq!(find(&until, "acbc"), Vec::<String>::new());
    let not = Pattern::begin_group(pair())
        .one_or_more()
        .not_followed_by("c")
        .where_(is('c'))
        .followed_by("d")
        .where_(field("name").ne("c"));
    // In the first round c may come, in the second it may not.
    assert!(find(&not, "acbx").is_empty());
    let not = Pattern::begin_group(pair())
        .one_or_more()
        .not_followed_by("c")
        .where_(is('c'))
        .next("d")
        .where_(is('a'));
    assert_eq!(find(&not, "acba"), ["a:0 b:2 d:3"]);
    assert_eq!(find(&not, "abacba"), ["a:0 b:1 d:2", "a:2 b:4 d:5"]);
    assert_eq!(find(&not, "ababa"), ["a:0 b:1 d:2", "a:0,2 b:1,3 d:4", "a:2 b:3 d:4"]);
}

#[test]
fn conditions_see_what_was_taken() {
    let rising = Pattern::begin("up").one_or_more().consecutive().where_(Predicate::Or(vec![
        Operand::Agg { agg: Agg::Count, stage: "up".into(), of: None }.eq(0.0),
        field("number").gt(Operand::Agg { agg: Agg::Last, stage: "up".into(), of: Some("number".into()) }),
    ]));
    assert_eq!(find(&rising, "abab"), ["up:0", "up:0,1", "up:1", "up:2", "up:2,3", "up:3"]);
    let null = Operand::Agg { agg: Agg::Max, stage: "a".into(), of: Some("nothing".into()) };
    for compare in [field("number").gt(null.clone()), field("name").lt(1.0), null.ne(1.0)] {
        assert!(find(&Pattern::begin("a").next("b").where_(compare), "ab").is_empty());
    }
}

#[test]
fn matches_of_one_first_event_are_taken_in_the_order_of_their_events() {
    let any = Pattern::begin("a")
        .where_(is('a'))
        .followed_by_any("b")
        .where_(is('b'))
        .optional()
        .followed_by_any("c");
    // Both are complete with the third event; a,b,c is the smaller list.
    let pattern = Pattern { after_match: AfterMatch::ToNext, ..any };
    assert_eq!(find(&pattern, "ab"), ["a:0 c:1"]);
    let pattern = Pattern::begin("a")
        .where_(is('a'))
        .followed_by("b")
        .where_(is('b'))
        .optional()
        .followed_by("c")
        .where_(is('c'))
        .after_match(AfterMatch::PastLast);
    assert_eq!(find(&pattern, "abcac"), ["a:0 b:1 c:2", "a:3 c:4"]);
}

#[test]
fn a_match_waits_for_one_that_began_earlier() {
    let pattern = Pattern::begin("a")
        .where_(is('a'))
        .followed_by("b")
        .where_(is('b'))
        .not_followed_by("c")
        .where_(is('c'))
        .within(4);
    let skipping = pattern.clone().after_match(AfterMatch::PastLast);
    assert_eq!(find(&pattern, "aab"), ["a:0 b:2", "a:1 b:2"]);
    assert_eq!(find(&skipping, "aab"), ["a:0 b:2"]);
    // The first is ended by c: the second, complete or not, is none of its business.
    assert_eq!(find(&skipping, "aabxxc"), ["a:0 b:2"]);
    assert!(find(&skipping, "aabc").is_empty());
}

#[test]
fn errors_say_where_and_what_to_do() {
    let two = Pattern::begin("a").next("a");
    assert_eq!(refused(&two), "stage \"a\" exists twice: give each stage its own name");
    let not = Pattern::begin("a").not_followed_by("b").optional().within(1);
    assert_eq!(refused(&not), "stage \"b\" must not come, so it takes no quantifier: remove it");
    assert!(refused(&Pattern::begin("a").times(2).until(is('a'))).contains("unbounded"));
    assert!(refused(&Pattern::begin("a").after_match(AfterMatch::ToLast("x".into()))).contains("\"x\""));
    assert!(refused(&Pattern::begin("a").times_range(3, 2)).contains("3 to 2"));
    assert!(refused(&Pattern::begin("a").within(0)).contains("above 0"));
    let unknown = Operand::Agg { agg: Agg::Count, stage: "x".into(), of: None };
    assert!(refused(&Pattern::begin("a").where_(unknown.gt(1.0))).contains("stage \"x\""));
    let mut text = json!({"pattern": [{"stage": "a"}, {"stage": "b"}]});
    let read =
        |text: &serde_json::Value| serde_json::from_value::<Pattern>(text.clone()).map_err(|e| e.to_string());
    assert!(refused(&read(&text).unwrap()).contains("stage \"b\" has no contiguity"));
    text["pattern"][1]["color"] = "red".into();
    assert!(read(&text).unwrap_err().contains("color"));
    let strategy = json!({"pattern": [{"stage": "a"}], "after_match": {"strategy": "to_next", "stage": "a"}});
    assert!(read(&strategy).unwrap_err().contains("name a stage"));
}

#[test]
fn limits_hold() {
    let many = |name: usize| if name == 0 { Pattern::begin("s0") } else { many_stages(name) };
    assert!(many(31).validate().is_ok());
    assert!(refused(&many(32)).contains("32 stages"));
    assert!(refused(&Pattern::begin("a").times(1_000_000)).contains("1024 states"));
    assert!(refused(&Pattern::begin("a").times(u32::MAX)).contains("states"));
    let mut deep = is('a');
    let mut group = Pattern::begin("a");
    for _ in 0..20 {
        deep = Predicate::Not(Box::new(deep));
        group = Pattern::begin_group(group);
    }
    assert!(refused(&Pattern::begin("a").where_(deep)).contains("levels in a predicate"));
    assert!(refused(&group).contains("levels of groups"));
    let wide = Predicate::And(vec![is('a'); 200]);
    assert!(refused(&Pattern::begin("a").where_(wide)).contains("256 comparisons"));
    let loops =
        Pattern::begin_group(Pattern::begin_group(Pattern::begin("a").times(100)).times(100)).times(100);
    assert!(refused(&loops).contains("states"));
}

fn many_stages(last: usize) -> Pattern {
    (1..=last).fold(Pattern::begin("s0"), |pattern, i| pattern.followed_by(format!("s{i}")))
}

#[test]
fn the_graph_names_states_and_what_must_not_come() {
    let pattern = Pattern::begin("a").where_(is('a')).times(2).not_followed_by("n").where_(is('c')).next("b");
    let graph = compile(&pattern, Limits::default()).unwrap().graph();
    let labels: Vec<&str> = graph.states.iter().map(|state| state.label.as_str()).collect();
    assert_eq!(labels, ["start", "a #1", "a #2", "b"]);
    assert_eq!(graph.states.iter().filter(|state| state.accepting).count(), 1);
    let to_b = graph.transitions.iter().find(|t| t.to == 3).unwrap();
    assert_eq!((to_b.from, to_b.contiguity, to_b.label.as_str()), (2, "next", "anything"));
    assert_eq!(to_b.without, ["n: name = \"c\""]);
    assert_eq!(json!(graph)["transitions"][2]["contiguity"], "start");
}
