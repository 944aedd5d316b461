//! Names of forks: an app that began as another one, from a savepoint, and runs beside it (`millrace savepoint fork`).
//!
//! The fork `trial` of the app `commerce` is the app `commerce.trial`. Like any app it has a consumer group, a changelog and
//! topics between its tasks that are named after it; what it writes goes to topics of its own.

/// The app that is this fork of `app`.
pub fn name(app: &str, fork: &str) -> String {
    format!("{app}.{fork}")
}

/// The app that `app` is a fork of; `None`: it is no fork.
///
/// ```
/// use millrace_wire::fork;
///
/// assert_eq!(fork::of("commerce.trial"), Some("commerce"));
/// assert_eq!(fork::of("commerce"), None);
/// ```
pub fn of(app: &str) -> Option<&str> {
    app.split_once('.').map(|(of, _)| of)
}

/// What the fork has in place of a topic that its app writes.
///
/// ```
/// use millrace_wire::{fork, topic};
///
/// assert_eq!(fork::topic("commerce.trial", topic::ALERTS), "commerce.trial.alerts");
/// assert_eq!(fork::topic("commerce.trial", &topic::changelog("commerce")), topic::changelog("commerce.trial"));
/// ```
pub fn topic(fork: &str, topic: &str) -> String {
    let own = of(fork).and_then(|app| topic.strip_prefix("millrace.")?.strip_prefix(app)?.strip_prefix('.'));
    match own {
        Some(rest) => format!("millrace.{fork}.{rest}"),
        None => format!("{fork}.{topic}"),
    }
}
