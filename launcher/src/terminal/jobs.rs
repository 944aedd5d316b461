//! `millrace jobs`, `params`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use millrace_wire::control::Command;
use millrace_wire::telemetry::{Job, JobDescriptor};
use serde_json::{Map, Value};

use super::talk::Talk;
use crate::layout::Layout;
use crate::out;

/// `jobs`.
pub fn list(layout: &Layout) -> Result<ExitCode> {
    let talk = Talk::new(layout)?;
    let mut sums = BTreeMap::<(String, String), Job>::new();
    for (app, job) in talk
        .workers()
        .flat_map(|(_, worker)| &worker.apps)
        .flat_map(|app| app.jobs.iter().map(move |job| (app, job)))
    {
        let sum = sums.entry((app.name.clone(), job.name.clone())).or_default();
        sum.records += job.records;
        sum.filtered += job.filtered;
        sum.late += job.late;
        sum.emitted += job.emitted;
        sum.pending += job.pending;
    }
    if sums.is_empty() {
        bail!("no worker has been heard of: `millrace health`");
    }
    out::line(format!(
        "{:<28} {:>12} {:>12} {:>8} {:>9} {:>10}  DOES",
        "JOB", "RECORDS", "FILTERED", "LATE", "PENDING", "RESULTS"
    ));
    for ((app, name), job) in sums {
        let about = talk.catalogue.iter().find(|about| about.app == app && about.job == name);
        out::line(format!(
            "{:<28} {:>12} {:>12} {:>8} {:>9} {:>10}  {}",
            format!("{app}.{name}"),
            job.records,
            job.filtered,
            job.late,
            job.pending,
            job.emitted,
            about.map_or("", |about| about.description.as_str())
        ));
    }
    out::line("since the workers started; `millrace params get JOB` shows what can be changed");
    Ok(ExitCode::SUCCESS)
}

/// The job of a name, `app.job` or, where it is clear, `job`.
fn find<'a>(catalogue: &'a [JobDescriptor], name: &str) -> Result<&'a JobDescriptor> {
    let found: Vec<_> = catalogue
        .iter()
        .filter(|about| about.job == name || format!("{}.{}", about.app, about.job) == name)
        .collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => bail!("there is no job {name}: `millrace jobs` shows all"),
        _ => bail!("{name} is in several apps: say APP.{name}"),
    }
}

/// The parameters in force.
fn in_force(talk: &Talk, about: &JobDescriptor) -> Result<Map<String, Value>> {
    let apps = talk.workers().flat_map(|(_, worker)| &worker.apps).filter(|app| app.name == about.app);
    let jobs = apps.flat_map(|app| &app.jobs).filter(|job| job.name == about.job && !job.params.is_empty());
    let newest = jobs.max_by_key(|job| job.params_version);
    newest
        .map(|job| job.params.clone())
        .with_context(|| format!("no worker runs {}.{} now: `millrace health`", about.app, about.job))
}

/// What a job is, and its parameters in force.
///
/// # Errors
/// There is no such job, or no worker runs it.
pub fn job(layout: &Layout, name: &str) -> Result<(JobDescriptor, Map<String, Value>)> {
    let talk = Talk::new(layout)?;
    let about = find(&talk.catalogue, name)?;
    Ok((about.clone(), in_force(&talk, about)?))
}

/// `params get JOB`.
pub fn get(layout: &Layout, job: &str) -> Result<ExitCode> {
    let talk = Talk::new(layout)?;
    let about = find(&talk.catalogue, job)?;
    let values = in_force(&talk, about)?;
    out::line(format!("{}.{}: {}", about.app, about.job, about.description));
    for (name, value) in &values {
        let schema = about.schema.get("properties").and_then(|properties| properties.get(name));
        let of = |what: &str| schema.and_then(|schema| schema.get(what));
        let text = |what: &str| {
            of(what).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let unit = text("x-unit").map(|unit| format!(" {unit}")).unwrap_or_default();
        let mut limits = Vec::new();
        limits
            .extend(text("default").filter(|_| of("default") != Some(value)).map(|d| format!("default {d}")));
        limits.extend(text("minimum").map(|n| format!("from {n}")));
        limits.extend(text("maximum").map(|n| format!("to {n}")));
        let limits = if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) };
        out::line(format!("  {name} = {value}{unit}{limits}"));
        out::line(format!("      {}", text("description").unwrap_or_default().replace('\n', " ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// `name=value`; a value that is no JSON is text.
fn change(text: &str) -> Result<(String, Value)> {
    let (name, value) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=VALUE"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.trim().to_owned(), value))
}

/// `params set JOB NAME=VALUE..`.
pub fn set(layout: &Layout, job: &str, changes: &[String]) -> Result<ExitCode> {
    let mut talk = Talk::new(layout)?;
    let about = find(&talk.catalogue, job)?.clone();
    let mut params = in_force(&talk, &about)?;
    for text in changes {
        let (name, value) = change(text)?;
        if !params.contains_key(&name) {
            let names: Vec<_> = params.keys().map(String::as_str).collect();
            bail!("{}.{} has no parameter {name}, only {}", about.app, about.job, names.join(", "));
        }
        params.insert(name, value);
    }
    let concerned: BTreeSet<String> = talk
        .workers()
        .filter(|(_, worker)| worker.apps.iter().any(|app| app.name == about.app))
        .map(|(component, _)| component.to_owned())
        .collect();
    let command = Command::Params { app: about.app, job: about.job, params };
    let ms = talk.command(command, concerned, "no worker runs it")?;
    out::line(format!("in force everywhere after {ms:.0} ms"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_may_be_named_without_its_app_where_that_is_clear() {
        let about =
            |app: &str, job: &str| JobDescriptor { app: app.into(), job: job.into(), ..Default::default() };
        let all = [about("a", "x"), about("b", "x"), about("b", "y")];
        assert_eq!(find(&all, "y").unwrap().app, "b");
        assert_eq!(find(&all, "b.x").unwrap().app, "b");
        assert!(find(&all, "x").unwrap_err().to_string().contains("several"));
        assert!(find(&all, "z").unwrap_err().to_string().contains("millrace jobs"));
    }

    #[test]
    fn values_are_json_or_text() {
        assert_eq!(change("n=5").unwrap(), ("n".to_owned(), json!(5)));
        assert_eq!(change(r#"c=["a","b"]"#).unwrap().1, json!(["a", "b"]));
        assert_eq!(change("t=a=b").unwrap().1, json!("a=b"));
        assert!(change("n").is_err());
    }
}
