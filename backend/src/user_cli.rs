//! `millrace-gateway user ..`.

use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use millrace_wire::Timestamp;
use millrace_wire::api::Role;

use crate::auth::Database;
use crate::auth::database::role_name;
use crate::auth::password::{self, SHORTEST};
use crate::config::UserAction;

/// Carries out one action.
///
/// # Errors
/// The database can't be used, or the action does not fit what is there.
pub async fn run(action: UserAction, database_url: &str) -> anyhow::Result<()> {
    let database = Database::open(database_url).await?;
    match action {
        UserAction::Add { name, role } => {
            let role = Role::from(role);
            check_name(&name)?;
            let (password, made_up) = password()?;
            if !database.add_user(&name, role, &password::hash(&password)?).await? {
                bail!("there is a user {name} already: `user password {name}` changes its password");
            }
            database
                .audit("command line", "local", "user-add", &format!("{name} as {}", role_name(role)))
                .await;
            say(&format!("added {name} as {}", role_name(role)));
            show(&password, made_up);
        }
        UserAction::List => {
            for user in database.users().await? {
                say(&format!(
                    "{}\t{}\tsince {}",
                    user.name,
                    role_name(user.role),
                    Timestamp(user.created_ms)
                ));
            }
        }
        UserAction::Remove { name } => {
            if !database.remove_user(&name).await? {
                bail!("there is no user {name}");
            }
            database.audit("command line", "local", "user-remove", &name).await;
            say(&format!("removed {name}; its sessions have ended"));
        }
        UserAction::Password { name } => {
            let (password, made_up) = password()?;
            if !database.set_password(&name, &password::hash(&password)?).await? {
                bail!("there is no user {name}");
            }
            database.audit("command line", "local", "user-password", &name).await;
            say(&format!("changed the password of {name}; its sessions have ended"));
            show(&password, made_up);
        }
    }
    Ok(())
}

/// The first start: an admin, with the password given or one that is made up and printed once.
///
/// # Errors
/// The database can't be used, or the password given is empty.
pub async fn first_admin(database: &Database, given: Option<String>) -> anyhow::Result<()> {
    if !database.no_users().await? {
        return Ok(());
    }
    let made_up = given.is_none();
    let password = given.unwrap_or_else(password::generate);
    if password.is_empty() {
        bail!("MILLRACE_ADMIN_PASSWORD is empty: unset it to have a password made up");
    }
    if let Err(error) = check_password(&password) {
        tracing::warn!("MILLRACE_ADMIN_PASSWORD is weak: {error}");
    }
    if database.add_user("admin", Role::Admin, &password::hash(&password)?).await? {
        database.audit("gateway", "local", "user-add", "admin as admin: the first start").await;
        if made_up {
            say(&format!(
                "First start: sign in as `admin` with the password {password} (it is shown only this once)"
            ));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        bail!("a name has 1 to 64 letters, digits, `.`, `-` or `_`");
    }
    Ok(())
}

fn check_password(password: &str) -> anyhow::Result<()> {
    if password.chars().count() < SHORTEST {
        bail!("a password has at least {SHORTEST} characters");
    }
    Ok(())
}

fn password() -> anyhow::Result<(String, bool)> {
    let given = match std::env::var("MILLRACE_USER_PASSWORD") {
        Ok(password) => Some(password),
        Err(_) if std::io::stdin().is_terminal() => None,
        Err(_) => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(4_096)
                .read_to_string(&mut text)
                .context("the password can't be read")?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|text| !text.is_empty())
        }
    };
    match given {
        Some(password) => check_password(&password).map(|()| (password, false)),
        None => Ok((password::generate(), true)),
    }
}

fn show(password: &str, made_up: bool) {
    if made_up {
        say(&format!("its password is {password} (it is shown only this once)"));
    }
}

#[expect(clippy::print_stdout, reason = "the answer of a command line, and no log line")]
fn say(text: &str) {
    println!("{text}");
}
