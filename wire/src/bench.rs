//! Names that `millrace bench` and the workers that it starts agree on.
//!
//! An app of the bench is `bench-<query>-<run>`: every measurement has an app of its own, and with it a consumer group, a
//! changelog and a result topic that nobody has used before.

/// What names of the bench's apps and workers begin with. The gateway leaves these out of its figures.
pub const PREFIX: &str = "bench-";

/// The watermark of their source: the largest timestamp of the partition less this, ms.
pub const OUT_OF_ORDERNESS_MS: i64 = 2_000;

/// Whether an app or a component is the bench's.
pub fn owns(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// A query over card transactions, keyed by `userId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// Keeps `completed` ones with a risk above 0.5 and adds a severity.
    Transform,
    /// Sum, count and largest amount per user in windows of 10 s.
    Tumbling,
    /// The same, 10 s by 2 s.
    Sliding,
    /// The same, in sessions with a gap of 5 s.
    Session,
    /// An amount below 5, followed by one above 500 within 60 s.
    Cep,
    /// Sum, count and largest amount per user so far, told with each transaction: state that grows with the users.
    Totals,
}

impl Query {
    /// Every query.
    pub const ALL: [Self; 6] =
        [Self::Transform, Self::Tumbling, Self::Sliding, Self::Session, Self::Cep, Self::Totals];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transform => "transform",
            Self::Tumbling => "tumbling",
            Self::Sliding => "sliding",
            Self::Session => "session",
            Self::Cep => "cep",
            Self::Totals => "totals",
        }
    }

    /// The app that runs it in the run of this name.
    pub fn app(self, run: &str) -> String {
        format!("{PREFIX}{}-{run}", self.name())
    }

    /// The query of an app.
    ///
    /// ```
    /// use millrace_wire::bench::Query;
    ///
    /// assert_eq!(Query::of_app(&Query::Cep.app("r1")), Some(Query::Cep));
    /// assert_eq!(Query::of_app("bank"), None);
    /// ```
    pub fn of_app(app: &str) -> Option<Self> {
        let (query, _) = app.strip_prefix(PREFIX)?.split_once('-')?;
        Self::ALL.into_iter().find(|known| known.name() == query)
    }
}

/// Where an app of the bench writes its results: `millrace.<app>.results`.
pub fn results(app: &str) -> String {
    format!("millrace.{app}.results")
}
