//! Who may change something.

use super::*;

/// Every operation that changes something, but signing in and out.
fn changes() -> Vec<(Method, String, Operation)> {
    every().filter(|(method, path, _)| *method != Method::GET && path != "/session").collect()
}

#[tokio::test]
async fn only_operators_change_something_and_that_is_checked_before_anything_else() {
    let server = Server::start().await;
    server.report();
    let viewer = server.sign_in("vera").await;
    let (operator, admin) = (server.sign_in("olaf").await, server.sign_in("ada").await);
    for (method, path, operation) in changes() {
        assert_eq!(operation.role, Some(Role::Operator), "{method} {path}");
        for body in [json!({"rate": 5}), json!({})] {
            let answer = server.call(&method, &path, Some(&viewer), Some(body.clone())).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            assert!(answer.problem().detail.contains("viewer"));
            let answer = server.call(&method, &path, None, Some(body)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            answer.problem();
        }
        // Let in, as far as finding that there is no such job and no such stream.
        let nothing = path.replace("mold-filter", "none").replace("iot-sensors", "none");
        let body = Some(json!({"rate": 5, "params": {}, "name": "burst"}));
        for cookie in [&operator, &admin] {
            let status = server.call(&method, &nothing, Some(cookie), body.clone()).await.status;
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
            assert!(!refused, "{method} {path}: {status}");
        }
    }
    let audited = server.gateway.database.audited().await;
    assert!(audited.contains(&("vera".into(), "sign-in".into())));
    let refused = audited.iter().filter(|entry| **entry == ("vera".into(), "role-refused".into())).count();
    assert_eq!(refused, 2 * changes().len(), "each refusal is in the audit log");
}

#[test]
fn the_changes_are_these_at_least() {
    let named: Vec<_> =
        changes().into_iter().map(|(method, _, operation)| (method, operation.path)).collect();
    for wanted in [
        (Method::PUT, "/jobs/{j}/params"),
        (Method::POST, "/jobs/{j}/checkpoints"),
        (Method::PUT, "/producers/{p}/rate"),
        (Method::POST, "/producers/{p}/scenario"),
    ] {
        assert!(named.contains(&wanted), "{wanted:?} in {named:?}");
    }
}
