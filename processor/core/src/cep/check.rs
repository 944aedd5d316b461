//! What can be said of a pattern before it is built.

use super::compiler::{Compiler, StageDraft, place, repetitions};
use super::limits::{CompileError, Limits};
use super::pattern::{Body, Contiguity, Element, Quantifier};
use super::predicate::{Operand, Predicate};

impl Compiler {
    /// Collects the stages and checks what can be said without building.
    pub(super) fn declare(
        &mut self,
        whose: &str,
        elements: &[Element],
        depth: usize,
    ) -> Result<(), CompileError> {
        if depth > self.limits.nesting {
            return Err(Self::limit("the pattern", self.limits.nesting, "levels of groups"));
        }
        if elements.is_empty() {
            return Err(CompileError::Empty(whose.to_owned()));
        }
        for (i, element) in elements.iter().enumerate() {
            match (i, element.contiguity) {
                (0, Some(_)) => return Err(CompileError::ContiguityOfFirst(place(element))),
                (1.., None) => return Err(CompileError::NoContiguity(place(element))),
                _ => {}
            }
            self.check_quantifier(element)?;
            match &element.body {
                Body::Stage { name, condition } => {
                    if self.stages.iter().any(|stage| *stage.name == **name) {
                        return Err(CompileError::DuplicateStage(name.clone()));
                    }
                    if self.stages.len() >= self.limits.stages {
                        return Err(Self::limit("the pattern", self.limits.stages, "stages"));
                    }
                    if let Some(condition) = condition {
                        self.check_predicate(&place(element), condition)?;
                    }
                    let text = condition.as_ref().map_or_else(|| "anything".to_owned(), Predicate::to_string);
                    self.stages.push(StageDraft { name: name.as_str().into(), text, condition: None });
                }
                Body::Group(_) if element.contiguity.is_some_and(Contiguity::is_not) => {
                    return Err(CompileError::NotGroup(place(element)));
                }
                Body::Group(inner) => self.declare(&place(element), inner, depth + 1)?,
            }
        }
        Ok(())
    }

    fn check_quantifier(&self, element: &Element) -> Result<(), CompileError> {
        let quantifier = &element.quantifier;
        if let (true, Body::Stage { name, .. }) =
            (element.contiguity.is_some_and(Contiguity::is_not), &element.body)
            && *quantifier != Quantifier::default()
        {
            return Err(CompileError::NotQuantified(name.clone()));
        }
        let (min, max, _) = repetitions(quantifier);
        if let Some(max) = max.filter(|max| *max < min) {
            return Err(CompileError::Times(place(element), min, max));
        }
        if let Some(until) = &quantifier.until {
            if max.is_some() {
                return Err(CompileError::UntilWithoutLoop(place(element)));
            }
            self.check_predicate(&place(element), until)?;
        }
        Ok(())
    }

    fn check_predicate(&self, place: &str, predicate: &Predicate) -> Result<(), CompileError> {
        let Limits { nesting, predicate: size, .. } = self.limits;
        let mut left = size;
        if !fits(predicate, nesting, &mut left) {
            return Err(if left == 0 {
                Self::limit(place, size, "comparisons, operands and connectives in a predicate")
            } else {
                Self::limit(place, nesting, "levels in a predicate")
            });
        }
        Ok(())
    }
}

fn fits(predicate: &Predicate, depth: usize, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    depth > 0
        && match predicate {
            Predicate::Compare { left: l, right: r, .. } => {
                operand_fits(l, depth - 1, left) && operand_fits(r, depth - 1, left)
            }
            Predicate::And(all) | Predicate::Or(all) => all.iter().all(|p| fits(p, depth - 1, left)),
            Predicate::Not(inner) => fits(inner, depth - 1, left),
            Predicate::Always(_) => true,
        }
}

fn operand_fits(operand: &Operand, depth: usize, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    depth > 0
        && match operand {
            Operand::Add(terms) => terms.iter().all(|term| operand_fits(term, depth - 1, left)),
            _ => true,
        }
}
