//! Asking coordinators: until the answer is one that stays, and so that no answer is taken for another request's.

use std::io;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use kafka_protocol::ResponseError;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::protocol::Request;

use super::cluster::{Cluster, Coordinated, Lane};
use super::connection::Connection;
use super::{Pause, away, passes, refused};
use crate::runtime::restart::SessionError;

/// What a coordinator may take if nobody wants to wait for longer.
pub const CALL: Duration = Duration::from_secs(10);
/// How long it may be silent, that is, neither do what it is asked nor say that it can't.
const SILENT: Duration = Duration::from_secs(6);
/// How long a broker may be silent before somebody else is asked whether it is still the one to wait for.
pub const SILENCE: Duration = Duration::from_secs(1);

/// A request to a coordinator.
pub struct Call<R> {
    /// What it means if it fails.
    pub what: &'static str,
    /// Whose coordinator.
    pub of: Coordinated,
    /// On which connection.
    pub lane: Lane,
    /// Of the request.
    pub version: i16,
    /// What is asked.
    pub request: R,
}

impl<R: Request> Call<R> {
    /// Sends the request, and waits for nothing. Returns who was asked; `None`: nobody coordinates at the moment.
    ///
    /// # Errors
    /// No broker says who coordinates, or that one can't be reached.
    pub fn begin(&self, cluster: &mut Cluster) -> io::Result<Option<i32>> {
        self.send(cluster, Cluster::free_lane)
    }

    /// The same behind requests whose answers are still to be heard, in their order.
    ///
    /// # Errors
    /// As of [`begin`](Self::begin).
    pub fn begin_behind(&self, cluster: &mut Cluster) -> io::Result<Option<i32>> {
        self.send(cluster, Cluster::lane)
    }

    fn send(
        &self,
        cluster: &mut Cluster,
        lane: impl FnOnce(&mut Cluster, i32, Lane) -> io::Result<&mut Connection>,
    ) -> io::Result<Option<i32>> {
        let Some(broker) = cluster.coordinator(&self.of)? else { return Ok(None) };
        let sent = lane(cluster, broker, self.lane).and_then(|lane| lane.send(&self.request, self.version));
        if let Err(error) = sent {
            self.lose(cluster, broker, &error);
            return Err(error);
        }
        Ok(Some(broker))
    }

    /// The answer of who was `asked`, which is given up if it does not answer; `None`: nothing was heard.
    ///
    /// # Errors
    /// It is silent.
    pub fn heard(&self, cluster: &mut Cluster, asked: i32) -> Result<Option<R::Response>, SessionError> {
        match self.hear(cluster, asked) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                self.lose(cluster, asked, &error);
                match error.kind() {
                    io::ErrorKind::TimedOut => Err(away(self.what)(error)),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Waits for the answer, `asked` being who was sent the request already; sends it again until the answer is one that
    /// stays. While nobody coordinates, or only for the moment can't, that is for at least 10 s, and then as long as `go_on`.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn until_done(
        &self,
        cluster: &mut Cluster,
        mut asked: Option<i32>,
        go_on: &dyn Fn() -> bool,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, SessionError> {
        let (began, mut pause, mut told) = (Instant::now(), Pause::new(), false);
        loop {
            if asked.is_none() {
                asked = match self.begin(cluster) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        return Err(away(self.what)(error));
                    }
                    begun => begun.unwrap_or_default(),
                };
            }
            if let Some(broker) = asked.take()
                && let Some(answer) = self.heard(cluster, broker)?
            {
                match code(&answer).err() {
                    None => return Ok(answer),
                    Some(error) if passes(error) => {
                        tracing::debug!(%error, what = self.what, "a coordinator is asked again");
                        let moved = ResponseError::NotCoordinator;
                        if error == moved || error == ResponseError::CoordinatorNotAvailable {
                            cluster.forget(&self.of);
                        }
                    }
                    Some(error) => return Err(refused(self.what, error)),
                }
            }
            if began.elapsed() > CALL {
                if !go_on() {
                    let seconds = began.elapsed().as_secs();
                    let text = format!("the coordinator has not done it within {seconds} s");
                    return Err(SessionError::Kafka(anyhow!(text).context(self.what)));
                }
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(what = self.what, "the coordinator has not done it yet, asking again");
                }
            }
            pause.wait();
        }
    }

    /// The coordinator's answer. One that is silent is waited for as long as it is the coordinator.
    fn hear(&self, cluster: &mut Cluster, broker: i32) -> io::Result<R::Response> {
        let began = Instant::now();
        if !cluster.lane(broker, self.lane)?.owes() {
            return Err(io::Error::other("the connection on which it was asked is gone"));
        }
        while !cluster.lane(broker, self.lane)?.ready(SILENCE)? {
            cluster.forget(&self.of);
            let now = cluster.coordinator(&self.of).ok().flatten();
            if now.is_some_and(|now| now != broker) {
                return Err(io::Error::other("there is another coordinator now"));
            }
            // If it were asked again, it might do the first request after the second, within the next transaction.
            if began.elapsed() > SILENT {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the coordinator is silent"));
            }
        }
        cluster.lane(broker, self.lane)?.receive::<R>(self.version)
    }

    /// A coordinator is away: whether it did what it was asked is not known.
    fn lose(&self, cluster: &mut Cluster, broker: i32, error: &io::Error) {
        tracing::debug!(%error, what = self.what, "a coordinator is asked again");
        cluster.hang_up(broker, self.lane);
        cluster.forget(&self.of);
    }
}
