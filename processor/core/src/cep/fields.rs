//! Which fields of an event a pattern looks at.

use std::collections::BTreeSet;

use super::pattern::{Body, Element, Pattern};
use super::predicate::{Operand, Predicate};

impl Pattern {
    /// The fields that its predicates name. Whether events have them, only its user knows: one that is missing is null, and
    /// every comparison with it false.
    ///
    /// ```
    /// use millrace_core::cep::{Pattern, field};
    ///
    /// let pattern = Pattern::begin("a").where_(field("humidity").gt(70.0)).followed_by("b").where_(field("level").lt(5.0));
    /// assert_eq!(pattern.fields().into_iter().collect::<Vec<_>>(), ["humidity", "level"]);
    /// ```
    pub fn fields(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        in_elements(&self.elements, &mut names);
        names
    }
}

fn in_elements<'a>(elements: &'a [Element], names: &mut BTreeSet<&'a str>) {
    for element in elements {
        element.quantifier.until.iter().for_each(|until| in_predicate(until, names));
        match &element.body {
            Body::Stage { condition, .. } => condition.iter().for_each(|one| in_predicate(one, names)),
            Body::Group(inner) => in_elements(inner, names),
        }
    }
}

fn in_predicate<'a>(predicate: &'a Predicate, names: &mut BTreeSet<&'a str>) {
    match predicate {
        Predicate::Compare { left, right, .. } => {
            in_operand(left, names);
            in_operand(right, names);
        }
        Predicate::And(all) | Predicate::Or(all) => all.iter().for_each(|one| in_predicate(one, names)),
        Predicate::Not(inner) => in_predicate(inner, names),
        Predicate::Always(_) => {}
    }
}

fn in_operand<'a>(operand: &'a Operand, names: &mut BTreeSet<&'a str>) {
    match operand {
        Operand::Field(name) => drop(names.insert(name)),
        Operand::Agg { of, .. } => names.extend(of.as_deref()),
        Operand::Add(terms) => terms.iter().for_each(|term| in_operand(term, names)),
        Operand::Const(_) => {}
    }
}
