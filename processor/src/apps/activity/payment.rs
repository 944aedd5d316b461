use compact_str::CompactString;
use millrace_core::cep::{FieldValue, Fields, Operand, Stages, field};
use millrace_core::stream::Context;
use millrace_wire::Timestamp;
use millrace_wire::event::CardTransaction;
use millrace_wire::result::Evidence;
use serde::{Deserialize, Serialize};

use crate::apps::evidence;

/// What is kept of a card transaction, with where it is from. Part of the state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Payment {
    pub user_id: CompactString,
    pub transaction_id: CompactString,
    pub amount: f64,
    pub at: Timestamp,
    pub evidence: Option<Evidence>,
}

impl Payment {
    pub fn new<P>(transaction: &CardTransaction, ctx: &Context<'_, P>) -> Self {
        Self {
            user_id: transaction.user_id.clone(),
            transaction_id: transaction.transaction_id.clone(),
            amount: transaction.amount,
            at: transaction.timestamp,
            evidence: evidence(ctx.origin),
        }
    }
}

/// In patterns: the amount of the payment at hand.
pub(super) fn amount() -> Operand {
    field("amount")
}

/// What a match has taken, whatever its stages are called.
pub(super) fn in_order(stages: &Stages<Payment>) -> Vec<&Payment> {
    let mut taken: Vec<_> = stages.iter().flat_map(|(_, payments)| payments).collect();
    taken.sort_by_key(|payment| payment.at);
    taken
}

/// Those of a payment.
pub(super) const FIELDS: &[&str] = &["amount"];

impl Fields for Payment {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match name {
            "amount" => FieldValue::Number(self.amount),
            _ => FieldValue::Null,
        }
    }
}
