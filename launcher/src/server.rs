//! Answers requests on the control socket.

use std::rc::Rc;

use anyhow::Result;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::board::Board;
use crate::component::Order;
use crate::control::{Action, Connection, Reply, Request};
use crate::supervisor::Handles;

/// Serves until the task is ended.
pub async fn serve(listener: UnixListener, board: Rc<Board>, handles: Handles, stop: watch::Sender<bool>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: it passes.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let answer =
            answer(Connection::accepted(stream), Rc::clone(&board), Rc::clone(&handles), stop.clone());
        tokio::task::spawn_local(async {
            // A client that has gone away needs no answer.
            let _ = answer.await;
        });
    }
}

async fn answer(
    mut connection: Connection,
    board: Rc<Board>,
    handles: Handles,
    stop: watch::Sender<bool>,
) -> Result<()> {
    let request = match connection.receive().await {
        Ok(Some(request)) => request,
        Ok(None) => return Ok(()),
        Err(error) => return connection.send(&Reply::Error(error.to_string())).await,
    };
    match request {
        Request::Status => connection.send(&Reply::Snapshot(board.snapshot())).await,
        Request::Component { name, action } => {
            connection.send(&component(&handles, &board, &name, action).await).await
        }
        Request::Down => {
            let mut changes = board.subscribe();
            stop.send_replace(true);
            let mut phase = String::new();
            loop {
                changes.changed().await?;
                let now = board.snapshot().phase;
                if now != phase {
                    connection.send(&Reply::Note(now.clone())).await?;
                    phase = now;
                }
            }
        }
    }
}

async fn component(handles: &Handles, board: &Board, name: &str, action: Action) -> Reply {
    let handle = handles.borrow().iter().find(|handle| handle.name == name).cloned();
    let Some(handle) = handle else {
        let names: Vec<_> = handles.borrow().iter().map(|handle| handle.name.clone()).collect();
        return Reply::Error(format!("there is no {name}; there are {}", names.join(", ")));
    };
    let (order, done) = match action {
        Action::Start => (Order::Start, "started"),
        Action::Kill => (Order::Kill, "killed"),
        Action::Stop => (Order::Stop, "stopped"),
    };
    handle.order(order).await;
    match board.get(name).and_then(|(component, _)| component.detail) {
        Some(detail) if action == Action::Start => Reply::Error(format!("{name}: {detail}")),
        _ => Reply::Done(format!("{name} is {done}")),
    }
}
