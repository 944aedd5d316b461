//! `millrace provision`: what the components of a cluster in containers are started with, made by the code that makes it
//! for the native one.
//!
//! The data folder is laid out as always. A component's folder in it is a volume of its own, which only that component
//! and this job see, at the same path: so every file is right as it is, and nobody sees another's secrets.

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::credentials::{Credentials, password};
use crate::layout::{Layout, write_private};
use crate::ports::{BROKERS, Ports};
use crate::progress::password_box;
use crate::state::State;
use crate::up::given_password;
use crate::{connection, elasticsearch, kafka, out};

/// What is not the same everywhere.
#[derive(Debug, Args)]
pub struct Options {
    /// Class path of Kafka in its image
    #[arg(long, value_name = "PATH", default_value = "/opt/kafka/libs/*")]
    kafka_class_path: String,
    /// Where people will open the page
    #[arg(long, env = "MILLRACE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Where people will open Grafana
    #[arg(long, env = "MILLRACE_GRAFANA_URL", default_value = "http://127.0.0.1:3000")]
    grafana_url: String,
}

/// Writes everything; what has been made up before stays.
pub fn provision(layout: &Layout, options: &Options) -> Result<ExitCode> {
    let mut state = State::load(layout)?.unwrap_or_default();
    state.named_hosts = true;
    state.save(layout)?;
    folders(layout, state.ports(), &Credentials::load_or_generate(layout)?, &options.kafka_class_path)?;
    grafana(layout, &options.grafana_url)?;
    if !state.admin_created {
        admin(&options.url)?;
        state.admin_created = true;
        state.save(layout)?;
    }
    out::line(format!("everything is provisioned; Millrace will be at {}", options.url));
    Ok(ExitCode::SUCCESS)
}

/// Fills the components' folders.
fn folders(layout: &Layout, ports: Ports, credentials: &Credentials, class_path: &str) -> Result<()> {
    kafka::configure(layout, ports, credentials)?;
    for n in 1..=BROKERS {
        let dir = layout.broker(n);
        kafka::write_args(&dir.join("format.args"), &kafka::format_args(n, layout, class_path, credentials))?;
        kafka::write_args(&dir.join("kafka.args"), &kafka::args(n, layout, class_path))?;
    }

    let dir = layout.root().join("elasticsearch");
    elasticsearch::configure(&dir, ports)?;
    // Read by elasticsearch-users, which asks for it twice.
    let password = &credentials.elasticsearch_password;
    write_private(&dir.join("password"), &format!("{password}\n{password}\n"))?;

    let kafka = connection::kafka_env(ports, credentials);
    let both = [kafka.clone(), connection::elasticsearch_env(ports, credentials)].concat();
    for (component, variables) in
        [("producers", &kafka), ("processor", &kafka), ("indexer", &both), ("gateway", &both)]
    {
        let dir = layout.root().join(component);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        write_private(&dir.join("env"), &connection::assignments(variables))?;
    }
    Ok(())
}

/// Grafana takes its administrator's password from a file, at its first start.
fn grafana(layout: &Layout, url: &str) -> Result<()> {
    let dir = layout.root().join("grafana");
    let file = dir.join("password");
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let password = password(20);
    write_private(&file, &password)?;
    out::line(format!("Grafana ({url}, only with the profile `monitoring`): admin, {password}"));
    Ok(())
}

/// Makes the page's first user; nothing keeps a password that was made up. The gateway's database is in the environment.
fn admin(url: &str) -> Result<()> {
    let given = given_password();
    let password = given.clone().unwrap_or_else(|| password(20));
    // If a start ended before anyone was told the password, there is a user that nobody can be.
    if let Err(error) = user(&["add", "admin", "--role", "admin"], &password) {
        user(&["password", "admin"], &password).map_err(|_| error)?;
    }
    if given.is_none() {
        let renew = "docker compose exec gateway millrace-gateway user password admin";
        password_box(url, &password, renew).iter().for_each(out::line);
    }
    Ok(())
}

fn user(args: &[&str], password: &str) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("millrace-gateway");
    let output = Command::new(&program)
        .arg("user")
        .args(args)
        .env("MILLRACE_USER_PASSWORD", password)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("the page's first user could not be made: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Everything that a folder's files say.
    fn text(dir: &Path) -> String {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths
            .map(|path| if path.is_dir() { text(&path) } else { fs::read_to_string(path).unwrap() })
            .collect()
    }

    #[test]
    fn a_folder_has_what_its_component_needs_and_no_other_secret() {
        let dir = std::env::temp_dir().join(format!("millrace-provision-{}", std::process::id()));
        let (layout, credentials) = (Layout::new(&dir).unwrap(), Credentials::generate());
        folders(&layout, Ports::on_named_hosts(), &credentials, "/opt/kafka/libs/*").unwrap();
        let Credentials { kafka_password, controller_password, elasticsearch_password, .. } = &credentials;
        for (component, has) in [
            ("kafka-1", [true, true, false]),
            ("elasticsearch", [false, false, true]),
            ("producers", [true, false, false]),
            ("processor", [true, false, false]),
            ("indexer", [true, false, true]),
            ("gateway", [true, false, true]),
        ] {
            let text = text(&dir.join(component));
            let found =
                [kafka_password, controller_password, elasticsearch_password].map(|s| text.contains(s));
            assert_eq!(found, has, "{component}");
        }
        let args = fs::read_to_string(dir.join("kafka-2/kafka.args")).unwrap();
        let config = dir.join("kafka-2/server.properties").display().to_string();
        let end = format!("\"-cp\"\n\"/opt/kafka/libs/*\"\n\"kafka.Kafka\"\n\"{config}\"\n");
        assert!(args.ends_with(&end), "{args}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
