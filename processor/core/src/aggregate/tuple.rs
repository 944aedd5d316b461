//! A tuple of aggregates is an aggregate: each gets every record.

use crate::time::EventTime;
use crate::window::Aggregate;

macro_rules! tuple {
    ($($name:ident $at:tt),+) => {
        impl<I, $($name: Aggregate<I>),+> Aggregate<I> for ($($name,)+) {
            type Acc = ($($name::Acc,)+);
            type Out = ($($name::Out,)+);

            fn create(&self) -> Self::Acc {
                ($(self.$at.create(),)+)
            }

            fn add(&self, acc: &mut Self::Acc, record: &I, at: EventTime) {
                $(self.$at.add(&mut acc.$at, record, at);)+
            }

            fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
                $(self.$at.merge(&mut acc.$at, &other.$at);)+
            }

            fn result(&self, acc: &Self::Acc) -> Self::Out {
                ($(self.$at.result(&acc.$at),)+)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
